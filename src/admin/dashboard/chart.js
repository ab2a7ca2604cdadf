// Line charts of the last minutes, and the map of the cluster.
import { clock, count, el, labels, svg } from './dom.js'

const [HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [180, 56, 8, 8, 20]
const SPAN = 5 * 60 * 1000

/** The width of a drawing: smaller where it is scaled down less, so that its text stays readable. */
const room = () => (window.innerWidth < 600 ? 360 : 600)

/**
 * A chart from 0 to at least `least`. Series are `{ name, points: [[time, value]] }`, at most three; values without a number are gaps.
 * `begun` is `{ at, restarted }`: nothing is known of the time before.
 */
export function chart(series, format, least, label, begun) {
  const WIDTH = room()
  const now = Math.max(...series.flatMap(({ points }) => points.map(([at]) => at)), 0)
  const values = series.flatMap(({ points }) => points.map(([, value]) => value)).filter(Number.isFinite)
  const top = nice(Math.max(...values, least))
  const x = (at) => LEFT + (WIDTH - LEFT - RIGHT) * (1 - (now - at) / SPAN)
  const y = (value) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / top)
  const rows = [0, 0.5, 1].map((share) => {
    const height = y(top * share)
    return [
      svg('line', { class: 'grid', x1: LEFT, x2: WIDTH - RIGHT, y1: height, y2: height }),
      svg('text', { x: LEFT - 6, y: height + 4, 'text-anchor': 'end' }, format(top * share)),
    ]
  })
  const times = (WIDTH < 500 ? [4, 2] : [5, 4, 3, 2, 1]).map((minutes) =>
    svg('text', { x: x(now - minutes * 60_000), y: HEIGHT - 4, 'text-anchor': minutes === 5 ? 'start' : 'middle' }, `−${minutes} min`),
  )
  // At the left end of the lines, where the chart is empty.
  const start = begun && now - begun.at < SPAN ? x(begun.at) : 0
  const since = begun?.restarted ? ['restarted', 'since the node restarted'] : ['opened', 'since this page was opened']
  const text = since.findLast((text) => start - LEFT > 6 * text.length)
  const empty = text ? svg('text', { x: start - 6, y: TOP + 14, 'text-anchor': 'end' }, `${text} →`) : null
  const lines = series.map(({ points }, index) => {
    let pen = 'M'
    let path = ''
    // A line begins with a dot, so that one of a single point is seen.
    for (const [at, value] of points) {
      if (!Number.isFinite(value)) pen = 'M'
      else if (now - at <= SPAN) {
        path += `${pen}${x(at).toFixed(1)} ${y(value).toFixed(1)}${pen === 'M' ? 'h0' : ''}`
        pen = 'L'
      }
    }
    return svg('path', { class: `s${index + 1}`, d: path })
  })
  return el('div', {}, legend(series, format), svg('svg', { class: 'chart', viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'img', 'aria-label': label }, rows.flat(), times, empty, lines))
}

function legend(series, format) {
  const entries = series.map(({ name, points }, index) => {
    const last = points.findLast(([, value]) => Number.isFinite(value))?.[1]
    const line = svg('svg', { viewBox: '0 0 16 8', 'aria-hidden': 'true' }, svg('line', { class: `s${index + 1}`, x1: 0, x2: 16, y1: 4, y2: 4 }))
    return el('span', {}, line, `${name} `, el('b', {}, last === undefined ? '–' : format(last)))
  })
  return el('div', { class: 'legend' }, entries)
}

/** The next round number above a value. */
function nice(value) {
  const power = 10 ** Math.floor(Math.log10(value))
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value)
}

const KINDS = { idle: 'idle', good: 'good', suspect: 'warn', draining: 'warn', broken: 'bad', closed: 'bad' }

/** The kind of a link's state: idle, good, warn or bad. */
export const kindOf = (state) => KINDS[state] ?? 'warn'

const NODES = 24

/**
 * This node in the middle, its peers around it, and the links to them; between them only those of `bad`, as `[address, address, state]`.
 * Members that are `lost` have the last places.
 */
export function map(members, bad, lost = []) {
  // Where a label names several members, their addresses take a line of their own.
  const ambiguous = labels([...members, ...lost])
  const [width, height] = [room(), [...members, ...lost].some(ambiguous) ? 290 : 260]
  const self = members.find((member) => member.self)
  const here = members.filter((member) => !member.self).slice(0, NODES - lost.length)
  const peers = [...here, ...lost]
  const [cx, cy] = [width / 2, height / 2 - 4]
  const places = new Map()
  const small = peers.length > 10
  const drawn = peers.map((member, index) => {
    const angle = (2 * Math.PI * index) / peers.length - (peers.length % 2 ? Math.PI / 2 : Math.PI)
    const [x, y] = [cx + Math.cos(angle) * (width < 500 ? 112 : 225), cy + Math.sin(angle) * 80]
    places.set(member.address, [x, y])
    const isLost = lost.includes(member)
    const state = isLost ? `lost at ${clock(member.evicted_ms)}` : (member.link?.state ?? 'no link')
    const kind = isLost ? 'lost' : kindOf(state)
    const line = svg('line', { class: member.link || isLost ? kind : 'warn', x1: cx, y1: cy, x2: x, y2: y })
    const title = svg('title', {}, `${member.address}: ${state}${member.link?.sessions ? `, serves ${count(member.link.sessions)} sessions of this node` : ''}`)
    const node = svg('g', {}, title, svg('circle', { class: kind, cx: x, cy: y, r: small ? 8 : 13 }))
    if (!small) {
      // Away from the middle, where no link crosses it.
      const notes = [member.link?.sessions ? `${state} · ${count(member.link.sessions)} of ours` : state]
      if (ambiguous(member)) notes.unshift(member.address)
      const below = y < cy - 10 ? y - 20 - 14 * notes.length : y + 29
      node.append(svg('text', { x, y: below }, name(member)))
      notes.forEach((note, line) => node.append(svg('text', { x, y: below + 14 * (line + 1), class: 'note' }, note)))
    }
    return [line, node]
  })
  const lines = drawn.map(([line]) => line)
  const between = bad.flatMap(([from, to, state]) => {
    const [a, b] = [places.get(from), places.get(to)]
    if (!a || !b) return []
    // Bent, so that it is not taken for the links of this node in the middle.
    const [dx, dy] = [b[0] - a[0], b[1] - a[1]]
    const turn = [(a[0] + b[0]) / 2 - dy * 0.3, (a[1] + b[1]) / 2 + dx * 0.3]
    return [svg('path', { class: kindOf(state), d: `M${a} Q${turn} ${b}` })]
  })
  const nodes = drawn.map(([, node]) => node)
  const center = svg('g', {}, svg('circle', { class: 'self', cx, cy, r: 17 }), svg('text', { x: cx, y: cy + 35 }, name(self)), svg('text', { x: cx, y: cy + 49, class: 'note' }, 'this node'))
  return svg('svg', { class: 'chart map', viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': 'Members and the links to them' }, lines, between, nodes, center)
}

const name = (member) => {
  const text = member.label || member.address
  return text.length > 22 ? `${text.slice(0, 21)}…` : text
}
