// The page of the cards example. Its messages, on the WebSocket at `/nano`, with JSON bodies:
//
//   request Lobby.Login     {"account": "Ann"}                     -> {"playing": false}   whether a game of hers goes on
//   request Lobby.Play      {}                                     -> true                 there is a seat: a new one, or that of the game
//   request Table.Sit       {}                                     -> true                 at the table that the lobby has chosen
//   request Table.Play      {"card": 17}                           -> true
//   request Lobby.Announce  {"password": "..", "text": ".."}       -> true                 all gates could be reached
//   push    onTable         what the player sees of the table, after each move; see `Table.show`
//   push    onNews          {"text": ".."}
//
// A connection that is lost needs no code here beside the banner: the session goes on, and what happened meanwhile arrives.

import { Client } from './nano.js'
import { Table } from './table.js'

const url = new URL('/nano', location.href)
url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:'

const view = new Table(document)
const password = new URLSearchParams(location.search).get('admin')

view.onjoin = async (name) => {
  const client = new Client(url, { resume: true, reconnect: { max: 5000 } })
  client.on('onTable', (table) => view.show(table))
  client.on('onNews', ({ text }) => view.news(text))

  client.addEventListener('reconnecting', ({ detail: { attempt } }) => {
    view.banner(attempt === 1 ? 'The connection is gone. Reconnecting…' : `Still reconnecting, attempt ${attempt}…`, 'wait')
  })
  client.addEventListener('resumed', () => view.banner('Connected again. Nothing was missed.', 'good'))
  client.addEventListener('reconnected', () => attempt(enter))
  let notice = ''
  client.addEventListener('kick', ({ detail: { reason, code } }) => {
    notice = code === 'LOGIN-REPLACED' ? `You play as ${name} in another window now` : `You were asked to leave: ${reason}`
  })
  client.addEventListener('close', ({ detail: { reason } }) => {
    sessionStorage.removeItem('name')
    view.outside(notice || reason)
  })

  view.onfind = () => attempt(find)
  view.onplay = (card) => attempt(() => client.request('Table.Play', { card }))
  view.onannounce = (text) => attempt(() => client.request('Lobby.Announce', { password, text }))
  view.onleave = () => client.close('')

  try {
    await client.connect()
    await enter()
  } catch (error) {
    client.close()
    return view.outside(`There is no seat for you (${error.msg ?? error.message})`)
  }
  // A page that is loaded anew comes back to its game.
  sessionStorage.setItem('name', name)

  /** Logs in, as a new session, and goes on with a game that there is. */
  async function enter() {
    const { playing } = await client.request('Lobby.Login', { account: name })
    view.banner('', '')
    view.inside(name, password !== null)
    if (playing) await find()
  }

  async function find() {
    await client.request('Lobby.Play')
    await client.request('Table.Sit')
  }

  /** Shows what went wrong, unless the connection did: then its events show it. */
  async function attempt(action) {
    try {
      await action()
    } catch (error) {
      if (client.state === 'open') view.news(error.msg ?? error.message)
    }
  }
}

// A closed page is a player who has gone, not a lost connection.
window.addEventListener('pagehide', () => {
  const name = sessionStorage.getItem('name')
  view.onleave()
  if (name) sessionStorage.setItem('name', name)
})

const known = sessionStorage.getItem('name')
if (known) view.onjoin(known)
