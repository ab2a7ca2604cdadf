// The API of the node, and the token that this tab keeps.

const TIMEOUT = 10_000

export const token = () => sessionStorage.getItem('token')

/** Keeps a token for this tab, or forgets it. */
export function keep(text) {
  if (text) sessionStorage.setItem('token', text)
  else sessionStorage.removeItem('token')
}

/** Asks the API; with a body, acts. Throws the text of its error, with its `status`. */
export async function ask(path, body, given = token()) {
  const headers = given ? { Authorization: `Bearer ${given}` } : {}
  const options = body === undefined ? { headers } : { method: 'POST', headers: { ...headers, 'Content-Type': 'application/json' }, body: JSON.stringify(body) }
  const answer = await fetch(`api/v1/${path}`, { ...options, signal: AbortSignal.timeout(TIMEOUT) })
  const json = await answer.json().catch(() => ({}))
  if (answer.ok) return json
  throw refused(answer.status, json.message, given)
}

/** Opens a page of the node beside this one: a link alone would not send the token. */
export async function openBeside(path) {
  const headers = token() ? { Authorization: `Bearer ${token()}` } : {}
  const answer = await fetch(path, { headers, signal: AbortSignal.timeout(TIMEOUT) })
  if (!answer.ok) throw refused(answer.status, undefined, token())
  const text = URL.createObjectURL(new Blob([await answer.text()], { type: 'text/plain; charset=utf-8' }))
  open(text, '_blank')
  setTimeout(() => URL.revokeObjectURL(text), TIMEOUT)
}

function refused(status, message, given) {
  const error = new Error(message ?? `status ${status}`)
  if (status === 401) error.message = given ? 'The token is wrong.' : 'This node needs its token.'
  return Object.assign(error, { status, given })
}

/** Keeps a token that the node accepts. Throws where it does not. */
export async function tryToken(given) {
  // A header carries no other characters, so no token has them.
  if (!/^[!-~]+$/.test(given)) throw new Error('The token is wrong: it has visible ASCII characters only.')
  await ask('node', undefined, given)
  keep(given)
}
