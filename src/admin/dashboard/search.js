// Sessions that match a search, and lists that are asked for by hand.
import { allow, inspect, known } from './actions.js'
import { ask } from './api.js'
import * as views from './views.js'

const PAGE = 25
const MOST = 500
/** How long it is shown at which gates a user is, in milliseconds. */
const LOCATED_FOR = 10_000
/** How long a refresh waits for that, in milliseconds. */
const ELSEWHERE_WITHIN = 500
/** The most sessions in the list of the busiest. */
const BUSIEST = 25

let query = { by: 'busiest', term: '' }
let limit = PAGE
let counts = { local: 0, remote: 0 }
let lists = { kind: 'users', entries: [], next: null }

const byId = (id) => document.getElementById(id)

/** Shows the sessions that match the search. */
export async function list(sessions = counts) {
  counts = sessions
  const asked = query
  const page = await find(query)
  // Another search may have been begun meanwhile.
  if (asked !== query) return
  views.sessions({ ...page, total: counts.local + counts.remote }, known.members, inspect)
  byId('more').hidden = page.next === null || limit >= MOST
}

async function find({ by, term }) {
  if (by === 'busiest') return busiest()
  if (by === 'id' && term) return { sessions: await byNumber(term), next: null, note: '', none: noId(term) }
  if (by === 'user' && term) return ofUser(term)
  const none = !term ? 'There is no session on this node.' : `No session on this node has an address that begins with ${term}.`
  const page = await ask(`sessions?limit=${limit}${term ? `&${by}=${encodeURIComponent(term)}` : ''}`)
  return { ...page, note: '', none }
}

/** An answer that is asked for anew when it is older than `lasts` milliseconds, or with another key. */
export class Lasting {
  #lasts
  #key
  #at
  #answer

  constructor(lasts) {
    this.#lasts = lasts
  }

  get(key, now, make) {
    if (key !== this.#key || now - this.#at >= this.#lasts) {
      this.#key = key
      this.#at = now
      this.#answer = make()
    }
    return this.#answer
  }
}

const located = new Lasting(LOCATED_FOR)

/** A user's sessions on this node, and where others are. */
async function ofUser(user) {
  const term = encodeURIComponent(user)
  // The whole cluster is asked. What this node has is shown although others do not answer.
  const elsewhere = located.get(query, Date.now(), () => ask(`users/locate?user=${term}`).then(({ sessions }) => sessions, () => null))
  // The rest of the page is not late for a gate that hangs: what is not known yet is at a later refresh.
  const inTime = Promise.race([elsewhere, new Promise((resolve) => setTimeout(resolve, ELSEWHERE_WITHIN))])
  const [page, sessions] = await Promise.all([ask(`sessions?limit=${limit}&user=${term}`), inTime])
  const others = elsewhereOf(page.sessions, sessions).map(({ session, gate }) => ({ id: session, user, elsewhere: gate }))
  const none = `No session on this node is bound to the user ${user}.`
  return { ...page, sessions: [...page.sessions, ...others], note: noteElsewhere(page.sessions, sessions), none }
}

/** The sessions of a user that are not on this node. */
function elsewhereOf(here, sessions) {
  const listed = new Set(here.map(({ id }) => id))
  return (sessions ?? []).filter(({ here, session }) => !here && !listed.has(session))
}

/** Says where else a user has sessions: null if that is unknown, undefined if there is no answer yet. */
export function noteElsewhere(here, sessions) {
  if (sessions === undefined) return 'other gates have not answered yet'
  if (sessions === null) return 'unknown whether on others: a gate does not answer'
  const others = elsewhereOf(here, sessions).map(({ gate, session }) => `session ${session} at the gate ${gate}`)
  return others.length > 0 ? `the user has ${others.join(', ')}` : ''
}

/** Those that send first, then the others by their ids. */
async function busiest() {
  const [busy, all] = await Promise.all([ask('busiest'), ask(`sessions?limit=${limit}`)])
  const listed = new Set(busy.sessions.map(({ id }) => id))
  // Where not all that send are listed, others would seem to send nothing.
  const complete = busy.sending <= BUSIEST
  const others = complete ? all.sessions.filter(({ id }) => !listed.has(id)) : []
  const note = busy.seconds > 0 && counts.local + counts.remote > 0 ? `${busy.sending} sent in the last ${busy.seconds < 10 ? busy.seconds.toFixed(1) : Math.round(busy.seconds)} s` : ''
  return { sessions: [...busy.sessions, ...others], next: complete ? all.next : null, note, none: 'There is no session on this node.' }
}

const isId = (term) => /^-?\d+$/.test(term)

const noId = (term) => (isId(term) ? `No session on this node has the id ${term}.` : `“${term}” is not the id of a session: that is a whole number.`)

async function byNumber(term) {
  if (!isId(term)) return []
  const found = await ask(`sessions/${term}`).catch((error) => {
    if (error.status === 404 || error.status === 400) return null
    throw error
  })
  return found ? [found] : []
}

/** Adds the next page to a list. It is not repeated: some lists look at every session. */
async function more() {
  const { kind, next } = lists
  if (kind === 'denied') {
    const { networks } = await ask('denied')
    byId('list-more').hidden = true
    return views.denied(networks, (network) => allow(network).then(more))
  }
  const after = next === null ? '' : `&after=${encodeURIComponent(next)}`
  const answer = await ask(`${kind}?limit=${PAGE}${after}`)
  lists = { kind, entries: [...lists.entries, ...answer[kind]], next: answer.next }
  views.listed(kind, lists.entries, answer.total, inspect)
  byId('list-more').hidden = answer.next === null
}

/** Binds the forms. */
export function start(failed) {
  byId('by').addEventListener('change', () => (byId('term').hidden = byId('by').value === 'busiest'))
  byId('search').addEventListener('submit', (event) => {
    event.preventDefault()
    query = { by: byId('by').value, term: byId('term').value.trim() }
    limit = PAGE
    list().catch(failed)
  })
  byId('more').addEventListener('click', () => {
    limit = Math.min(MOST, limit * 2)
    list().catch(failed)
  })
  byId('list-form').addEventListener('submit', (event) => {
    event.preventDefault()
    lists = { kind: byId('list-of').value, entries: [], next: null }
    more().catch(failed)
  })
  byId('list-more').addEventListener('click', () => more().catch(failed))
}
