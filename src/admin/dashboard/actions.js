// Dialogs, and what an operator can change in them.
import { ask, keep, token, tryToken } from './api.js'
import { clock, count, el } from './dom.js'
import { alone } from './problems.js'
import * as views from './views.js'

const SHOWN = 30_000

/** What the last answers said of the node and its members. */
export const known = { node: null, members: [] }

/** What follows an action: the page is read anew. */
let after = () => {}

const byId = (id) => document.getElementById(id)

let hide

/** Says what was done, for a while; `undo` is `[text, act]`. */
export function notify(text, undo) {
  byId('notice').className = 'notice'
  tell(text, undo)
}

/** Says what has failed, for a while. */
export function fail(text) {
  byId('notice').className = 'notice bad'
  tell(text)
}

function tell(text, undo) {
  clearTimeout(hide)
  hide = setTimeout(() => (byId('notice').hidden = true), SHOWN)
  const close = el('button', { type: 'button', 'aria-label': 'Close', onclick: () => (byId('notice').hidden = true) }, '×')
  const back = undo ? el('button', { type: 'button', onclick: () => undo[1]().catch((problem) => fail(problem.message)) }, undo[0]) : null
  byId('notice').replaceChildren(el('span', {}, text), ...[back, close].filter(Boolean))
  byId('notice').hidden = false
}

/**
 * Opens a dialog. `act` gets the text of its field, if it has one. The dialog stays open when it throws, or returns true.
 * `more` is another button, `[text, act]`.
 */
function dialog(title, { content = [], field, action, danger = false, act, more }) {
  const input = field ? el('input', { id: 'field', type: field.type ?? 'text', value: field.value ?? '', autocomplete: 'off' }) : null
  const label = field ? el('label', { for: 'field' }, field.label) : null
  const error = el('p', { class: 'error', role: 'alert', hidden: '' })
  const submit = action ? el('button', { type: 'submit', class: danger ? 'danger' : 'primary', id: 'act' }, action) : null
  const other = more ? el('button', { type: 'button', class: 'danger', id: 'more-act', onclick: more[1] }, more[0]) : null
  const cancel = el('button', { type: 'button', onclick: () => byId('dialog').close() }, action ? 'Cancel' : 'Close')
  const form = el('form', { id: 'dialog-form' }, el('h2', {}, title), [content].flat(3), label, input, error, el('div', { class: 'buttons' }, cancel, other, submit))
  form.addEventListener('submit', async (event) => {
    event.preventDefault()
    try {
      const stays = await act?.(input?.value)
      if (!stays) byId('dialog').close()
      after()
    } catch (problem) {
      error.hidden = false
      error.textContent = problem.message
    }
  })
  byId('dialog').replaceChildren(form)
  if (!byId('dialog').open) byId('dialog').showModal()
  // What does harm takes a second press elsewhere.
  const safe = input ?? (danger ? cancel : submit)
  safe?.focus()
}

/** A dialog for an action; one that would be refused says why instead. */
function actionDialog(title, options) {
  const notice = !known.node?.actions.token ? 'This node takes no actions: it was started without a token.' : 'Give the token first: actions need it.'
  const may = known.node?.actions.token && token()
  dialog(title, may ? options : { content: [options.content ?? [], el('p', { class: 'empty' }, notice)] })
}

/** Shows a session, and what can be done to it. */
export async function inspect(id) {
  try {
    const report = await ask(`sessions/${id}`)
    const field = { label: 'Reason of the kick', value: 'kicked by an operator' }
    const who = [report.user === null ? null : `user ${report.user}`, report.address].filter(Boolean).join(', ')
    const act = async (reason) => {
      await ask(`sessions/${id}/kick`, { reason })
      notify(`Kicked session ${id}${who ? ` (${who})` : ''} at ${clock(Date.now())}.`)
    }
    // Clients are refused where they connect.
    const host = report.client === 'local' && report.address?.replace(/:\d+$/, '').replace(/[[\]]/g, '')
    const more = host ? ['Deny its address', () => deny(host, report.address.replace(/\d+$/, ''))] : undefined
    actionDialog(`Session ${id}`, { content: [views.session(report, known.members)], field, action: 'Kick', danger: true, act, more })
  } catch (problem) {
    dialog(`Session ${id}`, { content: [el('p', {}, problem.message)] })
  }
}

/** `prefix` is what the addresses of all clients there begin with. */
async function deny(host, prefix) {
  const page = await ask(`sessions?limit=500&address=${encodeURIComponent(prefix)}`).catch(() => null)
  const many = page && `${count(page.sessions.length)}${page.next === null ? '' : ' or more'}`
  const met = page ? `${many} of this node's sessions ${many === '1' ? 'is' : 'are'} of clients there. ` : ''
  const text = 'Its clients that are connected to this node are disconnected, and it takes no others from there: all players behind the address. Other nodes are not told. It is in the list “Denied addresses” until it is allowed again, or the node stops.'
  const act = async () => {
    await ask('denied/add', { networks: [host] })
    notify(`Denied ${host} at ${clock(Date.now())}.`, ['Allow again', () => allow(host)])
  }
  actionDialog(`Deny ${host}?`, { content: [el('p', {}, met + text)], action: 'Deny', danger: true, act })
}

/** Takes a network from the deny list. */
export async function allow(network) {
  await ask('denied/remove', { networks: [network] })
  notify(`Allowed ${network} at ${clock(Date.now())}.`)
  after()
}

function openToken() {
  const text = `It is kept for this tab alone, and sent to this node alone.${token() ? ' Leave the field empty to forget it.' : ''}`
  const act = async (given) => {
    if (given) return void (await tryToken(given))
    if (!token()) throw new Error('Type the token.')
    keep(null)
  }
  dialog('Token', { content: [el('p', {}, text)], field: { label: 'Token', type: 'password' }, action: 'Use', act })
}

const LEVEL = /^(off|error|warn|info|debug|trace|[0-5])$/i

function openFilter() {
  const inForce = (filter) => filter ?? 'the program does not tell it: see Logs, or Admin::log_filter'
  const current = known.node?.log_filter
  let meant = null
  const act = async (filter) => {
    if (!filter.trim()) throw new Error('Type a filter, such as info,nano=debug; “off” logs nothing.')
    const hasLevel = filter.split(',').some((directive) => LEVEL.test(directive.split('=').at(-1).trim()))
    if (!hasLevel && meant !== filter) {
      meant = filter
      throw new Error('No part of it names a level: off, error, warn, info, debug or trace. Press Change again if it is meant.')
    }
    const done = await ask('log-filter', { filter })
    known.node.log_filter = done.current
    const rows = [['Before', inForce(done.before)], ['In force now', inForce(done.current)]]
    dialog('Log filter changed', { content: [views.pairs(rows)] })
    return true
  }
  const field = { label: 'For example info,nano=debug', value: current ?? '' }
  actionDialog('Log filter', { content: [views.pairs([['In force', inForce(current)]])], field, action: 'Change', act })
}

const LONGEST_DRAIN = 604_800

function openDrain() {
  const text = 'The node takes no new players, waits until the last one has left or the time is over, and stops. With 0 it stops at once.'
  const field = { label: 'Seconds that players may stay', type: 'number', value: String(known.node?.drain_seconds ?? 600) }
  const act = (given) => {
    const seconds = given.trim() === '' ? NaN : Number(given)
    if (!Number.isInteger(seconds) || seconds < 0 || seconds > LONGEST_DRAIN) throw new Error(`Type whole seconds from 0 to ${LONGEST_DRAIN}.`)
    confirmDrain(seconds)
    return true
  }
  actionDialog('Drain this node?', { content: [el('p', {}, text)], field, action: 'Drain', danger: true, act })
}

function confirmDrain(seconds) {
  const { label, address, sessions } = known.node
  const name = label || address || 'this node'
  const clients = `${count(sessions.local)} ${sessions.local === 1 ? 'client is' : 'clients are'} connected to this node`
  const served = sessions.remote ? ` It also serves ${count(sessions.remote)} sessions of other gates, which lose what they have here when it stops.` : ''
  const only = alone(known.members, address)
  const lack = only.length ? ` No other member has ${only.join(', ')}.` : ''
  const until = seconds < 86_400 ? `, until ${clock(Date.now() + seconds * 1000)}` : ''
  const text = seconds
    ? `${clients}, and may stay for ${seconds} s${until}. New ones are refused when the delay for load balancers is over. At the end the node stops, and those that are left are disconnected.${served}${lack}`
    : `${clients}. The node stops at once, and disconnects all of them.${served}${lack}`
  const act = async () => {
    await ask('drain', { seconds })
    notify(seconds ? `The node drains since ${clock(Date.now())}.` : `The node stops since ${clock(Date.now())}.`)
  }
  actionDialog(seconds ? `Drain ${name}?` : `Stop ${name} at once?`, { content: [el('p', {}, text)], action: seconds ? 'Drain now' : 'Stop at once', danger: true, act })
}

/** Binds the buttons of the head. `done` is called after each action. */
export function start(done) {
  after = done
  byId('open-token').addEventListener('click', openToken)
  byId('open-filter').addEventListener('click', openFilter)
  byId('drain').addEventListener('click', openDrain)
}
