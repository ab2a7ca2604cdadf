// The page of the cluster example. Its messages, on a gate's WebSocket at `/nano`, with JSON bodies, as on nano's own page:
//
//   request BindService.Login        {"nickname": "Ann"}                    -> {"code": 0}                       from the gate
//   push    onMembers                {"members": "Ben,Cem"}                 the members so far                   from the master
//   push    onNewUser                {"content": "User user join: Ann"}     to the members so far                from the room
//   notify  RoomService.SyncMessage  {"name": "Ann", "content": "hello"}                                         to the room
//   push    onMessage                {"name": "Ann", "content": "hello"}    to every member, sender included     from the room
//   push    onBalance                {"currentBalance": 999}                to the sender                        from the master
//   push    onLeave                  {"content": "User left: Ann"}          to the remaining members; only ours  from the room
//
// A name is an account: of two sessions that log in with it, the older is kicked. A Go nano gate has no accounts.
//
// Between different nodes there is no order: onMembers may come before or after the response of the login. This page sends SyncMessage as a
// request, whose reply confirms the delivery; a Go nano node does not answer it.

import { Client } from './nano.js'
import { Room } from './view.js'

const gate = new URLSearchParams(location.search).get('gate') ?? `${location.hostname}:34590`
const url = `${location.protocol === 'https:' ? 'wss:' : 'ws:'}//${gate}/nano`

/** With these, the gate has no room to send to at the moment. 410 is our own: no gate either. */
const AWAY = ['NANO-404', 'NANO-410', 'NANO-503']
/** What a login meets besides: the node that decides on it has died, and the master has not noticed yet. */
const UNDECIDED = 'NANO-408'

const view = new Room(document)
view.name = localStorage.getItem('name') ?? ''

view.onjoin = async (wanted) => {
  // A comma would make two of one.
  const name = wanted.replaceAll(',', ' ')
  // A request may wait for as long as the gate keeps the session.
  const client = new Client(url, { resume: true, timeout: 60_000, reconnect: { max: 5000 } })
  const people = new People()
  let waiting = false

  const listed = new Promise((resolve) => {
    client.on('onMembers', ({ members }) => {
      view.members = people.reset(members.split(',').filter(Boolean))
      resolve()
    })
  })
  client.on('onNewUser', ({ content }) => view.arrived(people.add(content.replace(/^User user join: /, ''))))
  client.on('onLeave', ({ content }) => {
    const member = people.remove(content.replace(/^User left: /, ''))
    if (member) view.left(member)
  })
  client.on('onBalance', ({ currentBalance }) => (document.getElementById('balance').textContent = currentBalance))
  client.on('onMessage', ({ name: sender, content }) => {
    // Of the messages with our name, ours are those we wait for.
    if (sender === name && view.confirm(content)) return
    view.message({ name: sender || 'Unknown', content })
  })

  client.addEventListener('reconnecting', ({ detail: { attempt } }) => {
    const text = attempt === 1 ? 'The gate is gone. Reconnecting…' : `Still reconnecting to the gate, attempt ${attempt}…`
    view.offline(text, client.resumable && !waiting)
  })
  client.addEventListener('resumed', () => {
    if (!waiting) view.online('Connected again. Nothing was missed.')
  })
  client.addEventListener('reconnected', async () => {
    if (!(await login())) return
    if (!waiting) view.online()
    view.notice('You are back in the room')
  })
  let notice = ''
  client.addEventListener('kick', ({ detail: { reason, code } }) => {
    notice = code === 'LOGIN-REPLACED' ? `You are in the room as ${name} in another window now` : `You were asked to leave: ${reason}`
  })
  client.addEventListener('close', ({ detail: { reason } }) => view.outside(notice || reason))

  view.onsend = (content) => {
    if (waiting) return false
    say(content)
    return true
  }
  view.onleave = () => client.close('')

  try {
    await client.connect()
  } catch (error) {
    client.close()
    view.outside(`The gate cannot be reached (${error.msg ?? error.message})`)
    return
  }
  // A master that has just stopped sends no member list.
  if (!(await login())) return
  await Promise.race([listed, sleep(2000)])
  localStorage.setItem('name', name)
  view.inside(name)

  /** Until it works, or there is no connection any more: then `reconnected` follows. */
  async function login() {
    while (client.state === 'open' || client.resumable) {
      try {
        await client.request('BindService.Login', { nickname: name })
        return true
      } catch (error) {
        if (error.code !== UNDECIDED && !AWAY.includes(error.code)) client.close(error.msg)
        else if (client.state === 'open') view.offline('The master is away. Trying again…')
      }
      await sleep(500)
    }
    return false
  }

  /** Retries until the message is delivered. */
  async function say(content) {
    while (client.state !== 'closed') {
      try {
        await client.request('RoomService.SyncMessage', { name, content })
        break
      } catch (error) {
        if (!AWAY.includes(error.code)) {
          view.fail(content)
          break
        }
        waiting = true
        if (client.state === 'open') view.offline('The room is away. Your message goes out when it is back…')
      }
      await sleep(500)
    }
    if (waiting && client.state === 'open') view.online()
    waiting = false
  }
}

/** The other members, by nickname; at a Go nano gate nicknames may repeat. */
class People {
  #members = []
  #last = 0

  reset(names) {
    this.#members = names.map((name) => ({ id: ++this.#last, name }))
    return [...this.#members]
  }

  add(name) {
    const member = { id: ++this.#last, name }
    this.#members.push(member)
    return member
  }

  remove(name) {
    const at = this.#members.findIndex((member) => member.name === name)
    return at < 0 ? null : this.#members.splice(at, 1)[0]
  }
}

function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
