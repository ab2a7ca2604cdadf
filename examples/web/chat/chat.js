// The chat page. Its messages, on the WebSocket at `/nano`, with JSON bodies:
//
//   request room.join     {"name": "Ann"}                                       -> {"code": 0, "result": "success"}
//   notify  room.message  {"name": "Ann", "content": "hello"}
//   push    onMembers     {"members": [7, 8], "names": [{"id": 7, "name": "Ben"}, {"id": 8, "name": ""}]}
//                         to the new member, before the reply: the members so far; `members` may be null instead of empty
//   push    onNewUser     {"content": "New user: 9", "id": 9, "name": "Ann"}    to the members so far
//   push    onMessage     {"name": "Ann", "content": "hello"}                   to every member, the sender included
//   push    onLeave       {"id": 9, "name": "Ann", "content": "User left: 9"}   to the remaining members
//
// This is the protocol of nano's chat demo, with more in it: `name` in room.join, `names` in onMembers, `id` and `name` in onNewUser, and onLeave.
// Pages that do not know these work all the same: they join with `{}` or no body, have the name "", and ignore what is new to them.
// Ids are session ids, numbers below 2^53. A name is an account: of two sessions that join with it, the older is kicked.

import { Client } from './nano.js'
import { Room } from './view.js'

const url = new URL('/nano', location.href)
url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:'

const view = new Room(document)
view.name = localStorage.getItem('name') ?? ''

view.onjoin = async (name) => {
  const client = new Client(url, { resume: true, reconnect: { max: 5000 } })

  client.on('onMembers', ({ members, names }) => {
    const named = new Map((names ?? []).map((member) => [member.id, member.name]))
    view.members = (members ?? []).map((id) => ({ id, name: nameOf(id, named.get(id)) }))
  })
  client.on('onNewUser', ({ id, name, content }) => {
    if (id === undefined) return view.notice(content)
    view.arrived({ id, name: nameOf(id, name) })
  })
  client.on('onLeave', ({ id, name }) => view.left({ id, name: nameOf(id, name) }))
  client.on('onMessage', ({ name: sender, content }) => {
    // Of the messages with our name, ours are those we wait for.
    if (sender === name && view.confirm(content)) return
    view.message({ name: sender || 'Unknown', content })
  })

  client.addEventListener('reconnecting', ({ detail: { attempt } }) => {
    if (!client.resumable) view.fail()
    view.offline(attempt === 1 ? 'The connection is gone. Reconnecting…' : `Still reconnecting, attempt ${attempt}…`, client.resumable)
  })
  client.addEventListener('resumed', () => view.online('Connected again. Nothing was missed.'))
  client.addEventListener('lost', () => view.fail())
  client.addEventListener('reconnected', async () => {
    try {
      await client.request('room.join', { name })
      view.online()
      view.notice('You are back in the room')
    } catch (error) {
      // If the connection broke again, the next `reconnected` follows.
      if (client.state === 'open') client.close(error.msg)
    }
  })
  let notice = ''
  client.addEventListener('kick', ({ detail: { reason, code } }) => {
    notice = code === 'LOGIN-REPLACED' ? `You are in the room as ${name} in another window now` : `You were asked to leave: ${reason}`
  })
  client.addEventListener('close', ({ detail: { reason } }) => view.outside(notice || reason))

  view.onsend = (content) => client.notify('room.message', { name, content })
  view.onleave = () => client.close('')

  try {
    await client.connect()
    await client.request('room.join', { name })
  } catch (error) {
    client.close()
    view.outside(`The room cannot be reached (${error.msg ?? error.message})`)
    return
  }
  localStorage.setItem('name', name)
  view.inside(name)
}

function nameOf(id, name) {
  return name || `Guest ${String(id).slice(-4)}`
}
