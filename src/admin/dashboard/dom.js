// Elements, tables, names, numbers and times. Texts become text nodes, so nothing that a client sends is markup.

const SVG = 'http://www.w3.org/2000/svg'

/** An element: `el('td', { class: 'n' }, 'text', child)`. */
export function el(tag, attributes = {}, ...children) {
  return build(document.createElement(tag), attributes, children)
}

/** An element of a drawing. */
export function svg(tag, attributes = {}, ...children) {
  return build(document.createElementNS(SVG, tag), attributes, children)
}

function build(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value)
    else if (value !== undefined && value !== null) element.setAttribute(name, value)
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined).map(visible))
  return element
}

const OBEYED = /[\p{Cc}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/gu

/** A text with its control characters and changes of direction as `\u{202e}`: names are those of clients and other nodes. Other values stay. */
export const visible = (text) => (typeof text === 'string' ? text.replace(OBEYED, (letter) => `\\u{${letter.codePointAt(0).toString(16)}}`) : text)

/** How long a selection keeps what it is in as it is, in milliseconds. */
const COPIED_WITHIN = 20_000

let isPressed = false
let selectedAt = 0

/** A press and its release must meet the same element, so nothing is replaced between them. */
export function watchPointer() {
  addEventListener('pointerdown', () => (isPressed = true))
  for (const end of ['pointerup', 'pointercancel', 'blur']) addEventListener(end, () => (isPressed = false))
  // One that was released outside of the window is seen when the pointer returns.
  addEventListener('pointermove', ({ buttons }) => (isPressed &&= buttons > 0))
  document.addEventListener('selectionchange', () => (selectedAt = Date.now()))
}

/** Whether the reader is about to copy something of this element. */
function isSelected(place) {
  const selection = getSelection()
  return Date.now() - selectedAt < COPIED_WITHIN && !selection.isCollapsed && selection.containsNode(place, true)
}

const orders = new Map()

/**
 * The rows of a table in the element with this id. While the pointer is over it they stay in the order in which they
 * were, with new ones last: what one reads and presses is the same row.
 */
export function steady(id, rows, keyOf, isHeld = document.getElementById(id).matches(':hover')) {
  const order = orders.get(id) ?? new Map()
  const place = (row) => order.get(keyOf(row)) ?? order.size
  const sorted = isHeld ? [...rows].sort((a, b) => place(a) - place(b)) : rows
  orders.set(id, new Map(sorted.map((row, index) => [keyOf(row), index])))
  return sorted
}

/** Puts content into the element with this id. */
export function show(id, ...content) {
  const place = document.getElementById(id)
  if (isPressed || isSelected(place)) return
  const { scrollTop, scrollLeft } = place
  place.replaceChildren(...content.map(visible))
  place.scrollTop = scrollTop
  place.scrollLeft = scrollLeft
}

/**
 * A table, or a note where there are no rows. Columns are `[title, cell]` or `[title, cell, 'n']` for numbers.
 * @param {(row: any) => string | undefined} mark the class of a row
 */
export function table(columns, rows, none, mark = () => undefined) {
  if (!rows.length) return el('p', { class: 'empty' }, none)
  const head = el('tr', {}, columns.map(([title, , kind]) => el('th', { class: kind, scope: 'col' }, title)))
  const body = rows.map((row) => el('tr', { class: mark(row) }, columns.map(([, cell, kind]) => el('td', { class: kind }, cell(row) ?? '–'))))
  return el('table', {}, el('thead', {}, head), el('tbody', {}, body))
}

/** A link to another page, which opens beside this one. */
export const anchor = (href, text) => el('a', { href, target: '_blank', rel: 'noreferrer' }, text)

export const badge = (kind, text) => el('span', { class: `badge ${kind}` }, text)

/** Whether other members have the label of a member too: `ambiguous(member)`. */
export function labels(members) {
  const counts = new Map()
  for (const { label } of members) counts.set(label, (counts.get(label) ?? 0) + 1)
  return ({ label }) => Boolean(label) && counts.get(label) > 1
}

/** The names of members: the label, with the address if several have it; the address of one without a label. */
export function names(members) {
  const ambiguous = labels(members)
  return (member) => (ambiguous(member) ? `${member.label} (${member.address})` : member.label || member.address)
}

/** A count or a rate in at most four characters and a letter. */
export function count(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return '–'
  const scale = [[1e9, 'G'], [1e6, 'M'], [1e4, 'k', 1e3]].find(([from]) => value >= from)
  if (scale) return `${digits(value / (scale[2] ?? scale[0]))}${scale[1]}`
  return digits(value)
}

function digits(value) {
  if (value === 0) return '0'
  return value < 10 && !Number.isInteger(value) ? value.toFixed(1) : Math.round(value).toLocaleString('en')
}

/** A duration in seconds, with a unit. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return '–'
  if (seconds < 1e-3) return `${Math.round(seconds * 1e6)} µs`
  if (seconds < 1) return `${(seconds * 1e3).toFixed(seconds < 0.1 ? 1 : 0)} ms`
  if (seconds < 90) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`
  if (seconds < 129600) return `${(seconds / 3600).toFixed(1)} h`
  return `${Math.round(seconds / 86400)} d`
}

export function bytes(value) {
  if (value === null || value === undefined) return '–'
  const [scale, unit] = [[2 ** 30, 'GiB'], [2 ** 20, 'MiB'], [2 ** 10, 'KiB']].find(([from]) => value >= from) ?? [1, 'B']
  return `${digits(value / scale)} ${unit}`
}

/** The time of day of milliseconds since 1970. */
export const clock = (ms) => new Date(ms).toLocaleTimeString([], { hour12: false })
