// The dashboard of one node: asks the API every two seconds while the page is seen, and takes the operator's actions.
import { clock, el, show } from './dom.js'
import { Samples } from './samples.js'
import * as views from './views.js'

const INTERVAL = 2000
const PAGE = 25

const samples = new Samples()
let schedulers = null
let page = { query: {}, shown: null }
let hasToken = false

const byId = (id) => document.getElementById(id)

/** Asks the API. Throws the text of its error. */
async function ask(path, body) {
  const token = sessionStorage.getItem('token')
  const headers = token ? { Authorization: `Bearer ${token}` } : {}
  const options = body === undefined ? { headers } : { method: 'POST', headers: { ...headers, 'Content-Type': 'application/json' }, body: JSON.stringify(body) }
  const answer = await fetch(`api/v1/${path}`, { ...options, signal: AbortSignal.timeout(10_000) })
  const json = await answer.json().catch(() => ({}))
  if (answer.ok) return json
  throw Object.assign(new Error(json.message ?? `status ${answer.status}`), { status: answer.status })
}

async function update() {
  const begun = performance.now()
  const [node, members, metrics, now, cluster] = await Promise.all([ask('node'), ask('members'), ask('metrics'), ask('schedulers?limit=50'), ask('cluster')])
  hasToken = node.actions.token
  const at = Date.now()
  samples.add(metrics, at)
  page.total = node.sessions.local + node.sessions.remote
  views.header(node)
  views.tiles(node, samples, now)
  views.charts(node, samples)
  views.problems(cluster.members, members.members, inspect)
  views.members(members.members, cluster.members)
  views.schedulers(now, schedulers, schedulers ? (at - schedulers.at) / 1000 : 0)
  schedulers = { ...now, at }
  views.routes(samples)
  const [warnings] = await Promise.all([node.actions.warnings ? ask('warnings') : null, list()])
  views.warnings(warnings)
  show('updated', `updated ${clock(Date.now())}, in ${Math.round(performance.now() - begun)} ms`)
}

/** Shows the sessions that match the search. */
async function list() {
  const { by, term } = page.query
  if (by === 'busiest' || (!by && !term)) {
    const { sessions } = await ask('busiest')
    if (sessions.length || by) {
      page.shown = { sessions, next: null, total: page.total ?? 0 }
      byId('more').hidden = true
      return views.sessions(page.shown, inspect)
    }
  }
  if (by === 'id' && term) {
    const found = await ask(`sessions/${encodeURIComponent(term)}`).catch((error) => {
      if (error.status === 404 || error.status === 400) return null
      throw error
    })
    const total = page.total ?? 0
    page.shown = { sessions: found ? [found] : [], next: null, total }
  } else {
    const limit = page.limit ?? PAGE
    const search = term && by !== 'busiest' ? `&${by}=${encodeURIComponent(term)}` : ''
    page.shown = await ask(`sessions?limit=${limit}${search}`)
  }
  views.sessions(page.shown, inspect)
  byId('more').hidden = page.shown.next === null || page.limit >= 500
}

byId('search').addEventListener('submit', (event) => {
  event.preventDefault()
  page = { query: { by: byId('by').value, term: byId('term').value.trim() }, shown: page.shown, total: page.total }
  list().catch(failed)
})

byId('more').addEventListener('click', () => {
  page.limit = Math.min(500, (page.limit ?? PAGE) * 2)
  list().catch(failed)
})

let lists = { kind: 'users', entries: [], next: null }

/** Adds the next page to a list. It is not repeated: some lists look at every session. */
async function more() {
  const { kind, next } = lists
  const after = next === null ? '' : `&after=${encodeURIComponent(next)}`
  const answer = await ask(`${kind}?limit=${PAGE}${after}`)
  lists = { kind, entries: [...lists.entries, ...answer[kind]], next: answer.next }
  views.listed(kind, lists.entries, answer.total, inspect)
  byId('list-more').hidden = answer.next === null
}

byId('list-form').addEventListener('submit', (event) => {
  event.preventDefault()
  lists = { kind: byId('list-of').value, entries: [], next: null }
  more().catch(failed)
})

byId('list-more').addEventListener('click', () => more().catch(failed))

/**
 * Opens a dialog. `act` gets the text of its field, if it has one, and keeps the dialog open when it throws.
 */
function dialog(title, { content = [], field, action, danger = false, act }) {
  const input = field ? el('input', { id: 'field', 'aria-label': field.label, placeholder: field.label, type: field.type ?? 'text', value: field.value ?? '', autocomplete: 'off' }) : null
  const error = el('p', { class: 'error', role: 'alert', hidden: '' })
  const submit = action ? el('button', { type: 'submit', class: danger ? 'danger' : 'primary', id: 'act' }, action) : null
  const cancel = el('button', { type: 'button', onclick: () => byId('dialog').close() }, action ? 'Cancel' : 'Close')
  const form = el('form', { id: 'dialog-form' }, el('h2', {}, title), content.flat(), input, error, el('div', { class: 'buttons' }, cancel, submit))
  form.addEventListener('submit', async (event) => {
    event.preventDefault()
    try {
      await act?.(input?.value)
      byId('dialog').close()
      update().catch(failed)
    } catch (problem) {
      error.hidden = false
      error.textContent = problem.message
    }
  })
  byId('dialog').replaceChildren(form)
  if (!byId('dialog').open) byId('dialog').showModal()
}

/** A dialog for an action; one that would be refused says why instead. */
function actionDialog(title, options) {
  const notice = !hasToken ? 'This node takes no actions: it was started without a token.' : 'Give the token first: actions need it.'
  const may = hasToken && sessionStorage.getItem('token')
  dialog(title, may ? options : { content: [options.content ?? [], el('p', { class: 'empty' }, notice)] })
}

async function inspect(id) {
  try {
    const report = await ask(`sessions/${id}`)
    const field = { label: 'Reason of the kick', value: 'kicked by an operator' }
    const act = (reason) => ask(`sessions/${id}/kick`, { reason })
    actionDialog(`Session ${id}`, { content: [views.session(report)], field, action: 'Kick', danger: true, act })
  } catch (problem) {
    dialog(`Session ${id}`, { content: [el('p', {}, problem.message)] })
  }
}

byId('open-token').addEventListener('click', () => {
  const text = 'It is kept for this tab alone, and sent to this node alone.'
  const act = (token) => (token ? sessionStorage.setItem('token', token) : sessionStorage.removeItem('token'))
  dialog('Token', { content: [el('p', {}, text)], field: { label: 'Token', type: 'password' }, action: 'Use', act })
})

byId('open-filter').addEventListener('click', () => {
  const field = { label: 'For example info,nano=debug' }
  actionDialog('Log filter', { field, action: 'Change', act: (filter) => ask('log-filter', { filter }) })
})

byId('drain').addEventListener('click', () => {
  const text = 'The node takes no new players, waits until the last one has left or the time is over, and stops.'
  const field = { label: 'Seconds that players may stay', type: 'number', value: '0' }
  const act = (seconds) => ask('drain', { seconds: Math.max(0, Math.round(Number(seconds) || 0)) })
  actionDialog('Drain this node?', { content: [el('p', {}, text)], field, action: 'Drain', danger: true, act })
})

function failed(problem) {
  const refused = problem.status === 401 || problem.status === 403
  byId('problem').hidden = false
  byId('problem').textContent = refused ? problem.message : `This node does not answer: ${problem.message}`
  if (problem.status === 401) sessionStorage.removeItem('token')
  if (!refused) {
    byId('state').className = 'badge bad'
    byId('state').textContent = 'no answer'
  }
}

async function run() {
  for (;;) {
    if (!document.hidden) {
      await update().then(() => (byId('problem').hidden = true), failed)
    }
    await new Promise((resolve) => setTimeout(resolve, INTERVAL))
  }
}

run()
