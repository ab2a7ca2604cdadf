// What the page shows of each report. Lists that a node does not have are left out.
import { chart, kindOf, map } from './chart.js'
import { anchor, badge, bytes, clock, count, duration, el, show, steady, table, visible } from './dom.js'
import { lostMembers } from './problems.js'

const QUANTILES = [0.5, 0.9, 0.99]
const SLOW = 0.2

export function header(node) {
  const name = node.label || node.name || 'nano'
  document.title = `${visible(name)} · nano`
  show('name', name)
  const address = node.address && node.address !== name ? ` · ${node.address}` : ''
  const version = node.version ? ` · version ${node.version}` : ''
  show('about', `${node.role}${address}${version} · up ${duration(node.uptime_seconds)} · nano ${node.library_version}`)
  const state = document.getElementById('state')
  state.className = `badge ${node.ready ? 'good' : 'bad'}`
  state.textContent = node.ready ? 'ready' : `not ready: ${node.missing.join(', ')}`
  document.getElementById('open-filter').hidden = !node.actions.log_filter
}

export function tiles(node, samples, schedulers) {
  // A gate answers requests with errors that no handler of its own returned.
  const failed = [
    sum(samples, 'nano_messages_handled_total', ({ status }) => status !== 'ok'),
    sum(samples, 'nano_requests_failed_total', () => true),
  ].reduce((most, value) => (value === undefined || value < most ? most : value), undefined)
  const p99 = samples.quantiles('nano_request_seconds', {}, [0.99])?.[0]
  const held = schedulers.schedulers.filter(({ held }) => held?.running_ms >= 1000).length
  const all = [
    ['Sessions here', count(node.sessions.local + node.sessions.remote)],
    ['Handled here', rate(sum(samples, 'nano_messages_handled_total', () => true))],
    node.listeners.length ? ['Requests, p99', duration(p99)] : ['Members of the cluster', count(node.members)],
    ['Failed here', rate(failed), failed > 0],
    ['Tasks waiting here', count(schedulers.waiting)],
    ['Schedulers blocked here', count(held), held > 0],
  ]
  show('tiles', ...all.map(([title, value, bad]) => el('div', { class: bad ? 'tile bad' : 'tile' }, el('span', {}, title), el('strong', {}, value))))
}

export function charts(node, samples) {
  const rates = [
    { name: 'received', points: samples.rates('nano_messages_received_total') },
    { name: 'handled here', points: samples.rates('nano_messages_handled_total') },
    { name: 'forwarded', points: samples.rates('nano_cluster_messages_forwarded_total') },
  ]
  show('rates', chart(rates, count, 1, 'Messages per second over the last five minutes', samples.begun))
  // A node without clients has no requests of its own: there the handlers are what takes time.
  const gate = node.listeners.length > 0
  const name = gate ? 'nano_request_seconds' : 'nano_message_handler_seconds'
  show('t-latency', ...(gate ? ['Requests ', el('small', {}, 'time to the answer')] : ['Handlers ', el('small', {}, 'time from start to end')]))
  const latency = QUANTILES.map((share) => ({ name: `p${share * 100}`, points: samples.quantileSeries(name, share) }))
  show('latency', chart(latency, duration, 1e-3, 'Durations over the last five minutes', samples.begun))
}

/** Pairs of members whose link one of them calls broken or suspect: each once, broken if either end says so. */
function badLinks(cluster) {
  const pairs = new Map()
  for (const { address, summary } of cluster) {
    for (const link of summary?.links ?? []) {
      const ends = [address, link.address].sort()
      const key = ends.join(' ')
      if (pairs.get(key)?.[2] !== 'broken') pairs.set(key, [...ends, link.state])
    }
  }
  return [...pairs.values()]
}

/** The cores in use, of those that there are. */
function cores({ cores, cores_available: available }) {
  if (typeof cores !== 'number') return null
  const used = cores < 9.95 ? cores.toFixed(1) : count(cores)
  return available ? `${used} / ${count(available)}` : used
}

// What was measured before a link broke says nothing of it now.
const works = ({ link }) => link && link.state !== 'broken'

export function members(all, cluster) {
  const lost = lostMembers(cluster).filter(({ address }) => !all.some((member) => member.address === address))
  const alone = 'This node stands alone: it is part of no cluster.'
  show('map', all.length ? map(all, badLinks(cluster), lost) : el('p', { class: 'empty' }, alone))
  const summaries = new Map(cluster.map(({ address, summary }) => [address, summary]))
  const load = ({ address }) => summaries.get(address)?.load ?? {}
  const isBlocked = ({ address }) => summaries.get(address)?.blocked.length > 0
  const link = ({ self, link }) => (self ? badge('', 'this node') : link ? badge(kindOf(link.state), link.state) : badge('warn', 'none'))
  const columns = [
    ['Member', (member) => member.label || member.address],
    ['Link', (member) => el('span', {}, link(member), ...(isBlocked(member) ? [' ', badge('bad', 'handler blocks')] : []))],
    ['CPU', (member) => cores(load(member)), 'n'],
    ['Waiting', (member) => count(load(member).tasks_waiting), 'n'],
    ['Clients', (member) => count(load(member).clients), 'n'],
    ['Messages', (member) => rate(load(member).messages_per_second), 'n'],
    ['Memory', (member) => bytes(load(member).memory_bytes), 'n'],
    ['Age', (member) => (member.started_ms ? duration((Date.now() - member.started_ms) / 1000) : null), 'n'],
    ['Role', (member) => (member.basic ? 'basic member' : member.role)],
    ...(all.some(({ version }) => version) ? [['Version', (member) => member.version]] : []),
    ['Address', (member) => el('code', {}, member.address)],
    ['Round trip', (member) => (works(member) && member.link.round_trip_seconds ? duration(member.link.round_trip_seconds) : null), 'n'],
    ['Our sessions', (member) => (member.link ? count(member.link.sessions) : null), 'n'],
    ['Queued', (member) => (works(member) ? bytes(member.link.queue_bytes) : null), 'n'],
    ['Services', (member) => member.services.join(', '), 'break'],
    ['', (member) => (member.admin && !member.self ? anchor(`http://${member.admin}/`, 'dashboard') : '')],
  ]
  show('members', table(columns, all, alone))
}

/** Schedulers with the share of time that their turns took since the answer before. */
export function schedulers(now, before, elapsed) {
  const busy = new Map((before?.schedulers ?? []).map((scheduler) => [scheduler.name, scheduler.busy_seconds]))
  show('scheduler-count', `${count(now.total)} in all`)
  const columns = [
    ['Scheduler', ({ name }) => el('code', {}, name)],
    ['Held by', ({ held }) => (held ? el('span', {}, badge('bad', duration(held.running_ms / 1000)), ' ', held.route ?? 'a task') : null)],
    ['Waiting', ({ waiting, capacity }) => `${count(waiting)} / ${count(capacity)}`, 'n'],
    ['Busy', ({ name, busy_seconds }) => (busy.has(name) && elapsed ? `${Math.min(100, Math.round(((busy_seconds - busy.get(name)) / elapsed) * 100))} %` : null), 'n'],
    ['Longest turn', ({ longest_turn_ms }) => duration(longest_turn_ms / 1000), 'n'],
    ['Held lately', ({ long_tasks: [last] }) => (last ? el('span', {}, el('code', {}, last.route ?? 'a task'), ` ${duration(last.longest_ms / 1000)}`, el('small', {}, `${duration(last.last_ago_ms / 1000)} ago`)) : null)],
  ]
  const rows = steady('schedulers', now.schedulers, ({ name }) => name)
  show('schedulers', table(columns, rows, 'There are no schedulers.', ({ held }) => (held?.running_ms >= 1000 ? 'held' : undefined)))
}

/** Routes of this node: those that hold a scheduler now, then the slowest. */
export function routes(samples, schedulers) {
  const running = new Map()
  for (const { held } of schedulers) {
    if (held?.route && held.running_ms >= 1000) running.set(held.route, Math.max(held.running_ms, running.get(held.route) ?? 0))
  }
  const names = [...new Set([...running.keys(), ...samples.series('nano_message_handler_seconds').map(({ labels }) => labels.route)])]
  const all = names.map((route) => {
    const failed = sum(samples, 'nano_messages_handled_total', (labels) => labels.route === route && labels.status !== 'ok', 60)
    const handled = sum(samples, 'nano_messages_handled_total', (labels) => labels.route === route, 60)
    const queue = samples.quantiles('nano_message_queue_seconds', { route }, QUANTILES)
    const handler = samples.quantiles('nano_message_handler_seconds', { route }, QUANTILES)
    return { route, failed, handled, queue, handler, most: samples.most('nano_message_handler_seconds', { route }) }
  })
  // Of a route that is slow once in a thousand messages no quantile tells.
  const worst = ({ queue, most }) => (queue?.[2] ?? 0) + (most ?? 0)
  const held = ({ route }) => running.get(route) ?? 0
  all.sort((a, b) => held(b) - held(a) || worst(b) - worst(a) || (b.handled ?? 0) - (a.handled ?? 0) || (a.route < b.route ? -1 : 1))
  const columns = [
    ['Route', ({ route }) => el('span', {}, el('code', {}, route), running.has(route) ? badge('bad', `running for ${duration(running.get(route) / 1000)}`) : null)],
    ['Handled', ({ handled }) => rate(handled), 'n'],
    ['Failed', ({ failed }) => (failed > 0 ? badge('bad', rate(failed)) : '0'), 'n'],
    ...QUANTILES.map((share, index) => [`Handler p${share * 100}`, ({ handler }) => duration(handler?.[index]), 'n']),
    ['Handler max', ({ most }) => slow(most), 'n'],
    ['Queue p50', ({ queue }) => duration(queue?.[0]), 'n'],
    ['Queue p99', ({ queue }) => slow(queue?.[2]), 'n'],
  ]
  show('routes', table(columns, steady('routes', all, ({ route }) => route), 'This node has no handlers.', ({ route }) => (running.has(route) ? 'held' : undefined)))
}

/** Routes of other members: how long those take to answer, of a sample of this node's requests. */
export function forwarded(samples) {
  const name = 'nano_cluster_request_seconds'
  const all = samples.series(name).map(({ labels }) => ({ route: labels.route, answers: samples.quantiles(name, labels, QUANTILES) }))
  const slowest = all.filter(({ answers }) => answers).sort((a, b) => b.answers[2] - a.answers[2])
  const known = steady('forwarded', slowest, ({ route }) => route)
  const columns = [
    ['Forwarded to other members', ({ route }) => el('code', {}, route)],
    ...QUANTILES.map((share, index) => [`Answer p${share * 100}`, ({ answers }) => duration(answers[index]), 'n']),
  ]
  show('forwarded', ...(known.length ? [table(columns, known)] : []))
}

/** Sessions of this node, and those of a user that are `elsewhere`, at a gate. */
export function sessions(page, members, inspect) {
  show('session-count', `${count(page.total)} on this node${page.note ? `, ${page.note}` : ''}`)
  const columns = [
    ['Session', ({ id, elsewhere }) => (elsewhere ? el('span', { class: 'id' }, String(id)) : el('button', { type: 'button', class: 'link', onclick: () => inspect(id) }, String(id)))],
    ['Sends', ({ messages_per_second }) => rate(messages_per_second ?? undefined), 'n'],
    ['Messages', ({ messages_received }) => count(messages_received), 'n'],
    ['From it', ({ bytes_received }) => bytes(bytes_received), 'n'],
    ['To it', ({ bytes_sent }) => bytes(bytes_sent), 'n'],
    ['User', ({ user }) => (user === null ? null : String(user))],
    ['Address', ({ address }) => (address ? el('code', {}, address) : null)],
    ['Client', ({ client, elsewhere }) => (elsewhere ? gate(elsewhere, members) : client === 'local' ? 'here' : 'another gate')],
    ['Queued', ({ queue_bytes }) => bytes(queue_bytes), 'n'],
  ]
  show('sessions', table(columns, steady('sessions', page.sessions, ({ id }) => id), page.none))
}

/** Users, groups or channels, which are asked for by hand. */
export function listed(kind, entries, total, inspect) {
  const ids = (sessions) => sessions.flatMap((id) => [el('button', { type: 'button', class: 'link', onclick: () => inspect(id) }, String(id)), ' '])
  const columns = {
    users: [['User', ({ user }) => JSON.stringify(user), 'break'], ['Sessions', ({ sessions }) => el('span', {}, ids(sessions)), 'break']],
    groups: [['Group', ({ group }) => group || 'without a name', 'break'], ['Members', ({ members }) => count(members), 'n']],
    channels: [
      ['Channel', ({ channel }) => channel, 'break'],
      ['Owner', ({ owner }) => (owner ? el('code', {}, owner) : null)],
      ['Publications', ({ offset }) => count(offset), 'n'],
      ['Members', ({ members }) => count(members), 'n'],
    ],
  }
  show('list-count', `${count(total)} ${kind} on this node`)
  show('listed', table(columns[kind], entries, 'There are none.'))
}

/** The networks whose clients this node refuses. */
export function denied(networks, allow) {
  const columns = [
    ['Network', (network) => el('code', {}, network)],
    ['', (network) => el('button', { type: 'button', onclick: () => allow(network) }, 'Allow again')],
  ]
  show('list-count', `${count(networks.length)} denied by this node`)
  show('listed', table(columns, networks, 'There are none.'))
}

/** What is known of one session. */
export function session(report, members) {
  return pairs([
    ['User', report.user ?? '–'],
    ['Address', report.address ?? '–'],
    ['Client', report.client === 'local' ? 'connected to this node' : report.gate ? gate(report.gate, members) : 'connected to another gate'],
    ['Sends', rate(report.messages_per_second ?? undefined)],
    ['Received from it', traffic(report.messages_received, report.bytes_received)],
    ['Sent to it', traffic(report.messages_sent, report.bytes_sent)],
    ['Requests in flight', count(report.requests_in_flight)],
    ['Queued', bytes(report.queue_bytes)],
    ['Groups', report.groups?.join(', ') || '–'],
    ['Bound to', Object.entries(report.bindings ?? {}).map(([service, address]) => `${service} at ${address}`).join(', ') || '–'],
  ])
}

/** Messages and bytes, where they are known: a client's bytes are its gate's to count. */
function traffic(messages, size) {
  if (typeof messages !== 'number') return 'known to its gate'
  return `${count(messages)} ${messages === 1 ? 'message' : 'messages'}${typeof size === 'number' ? `, ${bytes(size)}` : ''}`
}

/** The gate that a client is connected to, with its dashboard. */
function gate(address, members) {
  const { label, admin } = members.find((member) => member.address === address) ?? {}
  const name = label ? `${label} (${address})` : address
  return el('span', {}, 'at ', admin ? anchor(`http://${admin}/`, name) : name)
}

/** Terms with what is said of each. */
export const pairs = (rows) => el('dl', {}, rows.flatMap(([term, text]) => [el('dt', {}, term), el('dd', {}, text instanceof Node ? text : String(text))]))

export function warnings(report) {
  if (!report) return show('warnings', el('p', { class: 'empty' }, 'The program collects no warnings: see Logs, or Config::start_logs.'))
  const columns = [
    ['Time', ({ at_ms }) => clock(at_ms)],
    ['', ({ level }) => badge(level === 'error' ? 'bad' : 'warn', level)],
    ['Event', ({ message, fields, held_back }) => el('span', {}, message, ' ', el('small', {}, fields), heldBack(held_back)), 'break'],
  ]
  show('warnings', table(columns, report.warnings, 'No warnings.'))
}

/** That lines are missing, which clients can cause as many of as they like. */
function heldBack(lines) {
  return lines > 0 ? el('small', {}, `(and ${count(lines)} more about this cause that ${lines === 1 ? 'was' : 'were'} not logged)`) : null
}

/** A duration that players notice stands out. */
const slow = (seconds) => (seconds >= SLOW ? badge('bad', duration(seconds)) : duration(seconds))

const rate = (value) => (value === undefined || value === null ? '–' : `${count(value)}/s`)

/** The rates of the series whose labels match, together. */
function sum(samples, name, matches, seconds) {
  const rates = samples.series(name).filter(({ labels }) => matches(labels)).map(({ labels }) => samples.rate(name, labels, seconds))
  return rates.some((value) => value !== undefined) ? rates.reduce((total, value) => total + (value ?? 0), 0) : undefined
}
