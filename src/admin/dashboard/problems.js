// What stands out on any member, as the members say it. What has ended stays for a while, so that it is not missed.
import { anchor, badge, clock, count, duration, el, names, show, steady, table } from './dom.js'

const KEPT = 60_000
const NAMED = 5
const MILD = new Set(['not ready', 'link suspect'])

/** Whether a row may be for what others say is wrong. */
const isEffect = ({ title }) => Number(title === 'requests unanswered')

/** What stands out now and what has lately, in the order in which it came, effects last. */
export class Problems {
  #rows = new Map()

  /**
   * Takes what stands out now, each row with its `key` and, if it is known, its `age`. One with `ago`, in
   * milliseconds, is over. Where a member counts itself, the row has its `times` and `since`. Returns what is to be shown.
   * `outcome` says of a row that no member reports any more what has become of it.
   */
  take(found, now, outcome = () => 'ended') {
    const keys = new Set(found.map(({ key }) => key))
    for (const row of found) {
      const known = this.#rows.get(row.key)
      // A task that is younger than the one before is another one.
      const again = known && (known.ended || row.age < known.age)
      const counted = { since: known?.since ?? now, times: (known?.times ?? 1) + (again ? 1 : 0) }
      this.#rows.set(row.key, { ...counted, ...row, seen: now - (row.ago ?? 0), ended: row.ago !== undefined })
    }
    for (const [key, row] of this.#rows) {
      row.ended ||= !keys.has(key)
      row.outcome = row.ended ? outcome(row) : undefined
      if (!keys.has(key) && now - row.seen > KEPT) this.#rows.delete(key)
    }
    return [...this.#rows.values()].sort((a, b) => isEffect(a) - isEffect(b))
  }
}

const memory = new Problems()

export function problems(cluster, members, inspect) {
  const nameOf = names(cluster)
  const name = (address) => {
    const member = cluster.find((other) => other.address === address)
    return (member && nameOf(member)) || address || 'this node'
  }
  show('asked', asked(cluster, name))
  const admin = ({ address, self }) => (self ? null : members.find((member) => member.address === address)?.admin)
  const columns = [
    ['', ({ title, ended, recurs }) => badge(recurs ? 'warn' : ended ? '' : MILD.has(title) ? 'warn' : 'bad', title)],
    ['Node', (row) => el('span', {}, row.node, ' ', row.self ? el('small', {}, 'this node') : dashboard(admin(row)))],
    ['What', ({ text, ended, outcome, ago, seen, since, times }) => el('span', {}, text, times > 1 ? el('small', {}, `${count(times)} times since ${clock(since)}`) : null, ended ? el('small', {}, `${outcome}, ${ago === undefined ? 'seen until' : 'the last time at'} ${clock(seen)}`) : null), 'break'],
  ]
  const all = memory.take(current(cluster, members, name, inspect), Date.now(), (row) => outcome(row, cluster))
  const rows = steady('problems', all, ({ key }) => key)
  const list = table(columns, rows, 'Nothing: no handler blocks, no client floods, no link is broken, no member was lost.', ({ ended, recurs }) => (ended && !recurs ? 'ended' : undefined))
  list.classList.add('rows')
  show('problems', list)
}

/** What has become of a row that is not reported any more: a node that is gone has not ended its fault. */
export function outcome({ title, address, peer }, cluster) {
  const member = (address) => cluster.find((other) => other.address === address)
  if (!member(address)) return 'the node is no member any more'
  if (title === 'member lost') return 'it has returned'
  if (peer && !member(peer)) return 'the peer is no member any more'
  // A node that does not answer tells nothing of its own faults.
  if (title !== 'no answer' && !member(address).summary) return 'not known any more'
  return 'ended'
}

/** Members that a master evicted and that have not returned, each once: the latest eviction of an address. */
export function lostMembers(cluster) {
  const lost = new Map()
  for (const member of cluster.flatMap(({ summary }) => summary?.lost ?? [])) {
    if (cluster.some(({ address }) => address === member.address)) continue
    if (!(lost.get(member.address)?.evicted_ms > member.evicted_ms)) lost.set(member.address, member)
  }
  return [...lost.values()].sort((a, b) => a.evicted_ms - b.evicted_ms)
}

const dashboard = (address) => (address ? anchor(`http://${address}/`, 'dashboard') : null)

/** The services of a member that no other member offers. */
export function alone(members, address) {
  const others = new Set(members.filter((member) => member.address !== address).flatMap(({ services }) => services))
  return (members.find((member) => member.address === address)?.services ?? []).filter((service) => !others.has(service))
}

/** How many members have answered, and which have not. */
function asked(cluster, name) {
  const lost = lostMembers(cluster)
  if (cluster.length === 1 && !lost.length) return 'on this node'
  const listed = (members) => {
    const first = members.slice(0, NAMED).map(({ address }) => name(address))
    return `${first.join(', ')}${members.length > NAMED ? ` and ${members.length - NAMED} others` : ''}`
  }
  const answered = cluster.filter(({ summary }) => summary).length
  const silent = cluster.filter(({ error }) => error)
  const mute = cluster.filter(({ summary, error }) => !summary && !error)
  return [
    `${count(answered)} of ${count(cluster.length)} nodes answered`,
    ...(lost.length ? [`${count(lost.length)} lost`] : []),
    ...(silent.length ? [`no answer from ${listed(silent)}`] : []),
    ...(mute.length ? [`no admin server on ${listed(mute)}`] : []),
  ].join('; ')
}

/** What stands behind the name of a member: its address, unless the name has it. */
export const behind = (name, address) => (name.includes(address) ? [] : [address])

/** What the members say now. */
function current(cluster, members, name, inspect) {
  const links = new Set()
  const small = (name, address) => behind(name, address).map((text) => el('small', {}, text))
  const lost = lostMembers(cluster).map(({ address, label, evicted_ms }) => ({
    key: JSON.stringify(['lost', address, evicted_ms]),
    address,
    node: label || address,
    title: 'member lost',
    text: [`evicted ${clock(evicted_ms)}: its heartbeats stopped`, ...small(label || address, address)],
  }))
  const reported = cluster.flatMap(({ address, self, summary, error }) => {
    const row = (title, key, text) => ({ key: JSON.stringify(key), address, node: name(address), self, title, text })
    if (error) return [row('no answer', ['no answer', address], [`to this node: ${error}`])]
    if (!summary) return []
    // Both ends may see that a link is broken; of a member that is gone all others do.
    const isNew = (link) => {
      if (!self && cluster.some((other) => other.error && other.address === link.address)) return false
      const pair = JSON.stringify([address, link.address].sort())
      return !links.has(pair) && links.add(pair)
    }
    const holds = ({ scheduler, route }, verb, ms, most) => {
      const text = [el('code', {}, route ?? 'a task'), ` ${verb} the scheduler `, el('code', {}, scheduler), ` for ${duration(ms / 1000)}`, most ?? '']
      return row('handler blocks', ['blocks', address, scheduler, route], text)
    }
    const ended = new Map((summary.long_tasks ?? []).map((task) => [JSON.stringify([task.scheduler, task.route]), task]))
    const since = (task) => Date.now() - task.first_ago_ms
    const blocked = summary.blocked.map((task) => {
      const before = ended.get(JSON.stringify([task.scheduler, task.route]))
      const counted = before ? { times: before.times + 1, since: since(before) } : {}
      return { ...holds(task, 'has held', task.running_ms), age: task.running_ms, ...counted }
    })
    // One that blocks again now has its row already.
    const isOver = ({ key }) => !blocked.some((row) => row.key === key)
    const over = [...ended.values()].map((task) => {
      const most = task.times > 1 ? ' at most' : ''
      // One that blocks again and again is no fault of the past between two times.
      const recurs = task.times > 1 && task.last_ago_ms < KEPT
      return { ...holds(task, 'held', task.longest_ms, most), ago: task.last_ago_ms, times: task.times, since: since(task), recurs }
    })
    const floods = summary.floods.map(({ session, user, address: client, messages_per_second }) => {
      const id = el(self ? 'button' : 'span', self ? { type: 'button', class: 'link', onclick: () => inspect(session) } : { class: 'id' }, String(session))
      const who = [user === null ? null : `user ${user}`, client].filter(Boolean).join(', ')
      return row('client floods', ['floods', address, session], ['session ', id, ` sends ${count(messages_per_second)} messages per second`, el('small', {}, who)])
    })
    const broken = summary.links.filter(isNew).map(({ state, address: peer }) => {
      const only = alone(members, peer)
      const lack = state === 'broken' && only.length ? [`; no other member has ${only.join(', ')}`] : []
      const text = [`to ${name(peer)}`, ...small(name(peer), peer), ...lack]
      return { ...row(`link ${state}`, ['link', [address, peer].sort()], text), peer }
    })
    const unanswered = summary.unanswered_per_second
    const routes = (summary.unanswered_routes ?? []).flatMap((route, index) => [index ? ', ' : ': ', el('code', {}, route)])
    return [
      ...blocked,
      ...over.filter(isOver),
      ...floods,
      ...broken,
      ...(unanswered > 0 ? [row('requests unanswered', ['unanswered', address], [`${count(unanswered)} requests per second had no answer in time`, ...routes])] : []),
      ...(summary.ready ? [] : [row('not ready', ['not ready', address], [summary.missing.join(', ')])]),
    ]
  })
  return [...lost, ...reported]
}
