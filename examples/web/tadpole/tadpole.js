// The tadpole page. Its messages, on the WebSocket at `/`, with JSON bodies:
//
//   request Manager.Login {"name": "Ann"}            -> {"code": 0, "id": 9}
//   request World.Enter   {}                         -> {"code": 0, "swimmers": [{"id": 7, "name": "Ben"}]}, the swimmers so far;
//                                                       an error reply before Manager.Login
//   notify  World.Update  raw bytes                  passed on unchanged to every swimmer, the sender included
//   notify  World.Message {"message": "hello"}
//   push    enter         {"id": 9, "name": "Ann"}   to the swimmers so far
//   push    update        raw bytes                  of a World.Update
//   push    message       {"id": 9, "message": "hello"}   to every swimmer, the sender included
//   push    leave         {"id": 9}                  to the remaining swimmers
//
// The raw bytes are this page's own affair, the server never reads them: JSON {"id", "x", "y", "angle", "momentum", "name"}.
// Ids are session ids, numbers below 2^53.

import { Client } from './nano.js'
import { Pond } from './pond.js'
import { Steering } from './steering.js'
import { Swimmer } from './swimmer.js'

// The interval of position updates, in ms: while moving, and while resting.
const UPDATE_MOVING = 66
const UPDATE_RESTING = 2000

const url = new URL('/', location.href)
url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:'

const find = (id) => document.getElementById(id)
const encoder = new TextEncoder()
const decoder = new TextDecoder()
const pond = new Pond(find('pond'))
const steering = new Steering(find('pond'), () => document.activeElement?.value)
const swimmers = new Map()
let client = null
let self = null
let lastUpdate = 0

find('name').value = localStorage.getItem('name') ?? ''
find('login').addEventListener('submit', async (event) => {
  event.preventDefault()
  const name = find('name').value.trim()
  if (!name) return
  find('refusal').textContent = ''
  // One login at a time.
  event.submitter.disabled = true
  client = listen(new Client(url, { reconnect: { max: 5000 } }), name)
  try {
    await client.connect()
    await enter(name)
    localStorage.setItem('name', name)
    find('login').hidden = true
    find('say').hidden = false
    document.activeElement?.blur()
  } catch (error) {
    client.close(`The pond cannot be reached (${error.msg ?? error.message})`)
  } finally {
    event.submitter.disabled = false
  }
})

function listen(client, name) {
  client.on('enter', ({ id, name }) => {
    swimmers.set(id, new Swimmer(id, name))
    // A new page knows no places until the next updates.
    sendUpdate()
  })
  client.on('leave', ({ id }) => swimmers.delete(id))
  client.on('update', (bytes) => moved(bytes), { raw: true })
  client.on('message', ({ id, message }) => {
    const speaker = swimmers.get(id)
    if (!speaker) return
    speaker.say(message)
    const line = document.createElement('li')
    line.textContent = `${speaker.name}: ${message}`
    find('heard').append(line)
    if (find('heard').children.length > 20) find('heard').firstChild.remove()
  })
  client.addEventListener('reconnecting', () => banner('The connection is gone. Reconnecting…'))
  client.addEventListener('reconnected', async () => {
    try {
      await enter(name)
      banner('')
    } catch (error) {
      // If the connection broke again, the next `reconnected` follows.
      if (client.state === 'open') client.close(error.msg)
    }
  })
  client.addEventListener('close', ({ detail: { reason } }) => {
    swimmers.clear()
    self = null
    banner('')
    find('refusal').textContent = reason
    find('say').hidden = true
    find('login').hidden = false
  })
  return client
}

/** Logs in and enters the pond, where we were if we were in it before. */
async function enter(name) {
  const { id } = await client.request('Manager.Login', { name })
  const { swimmers: others } = await client.request('World.Enter')
  const before = self
  swimmers.clear()
  for (const other of others ?? []) swimmers.set(other.id, new Swimmer(other.id, other.name))
  self = new Swimmer(id, name)
  const scatter = () => (Math.random() - 0.5) * 360
  self.place(before?.x ?? scatter(), before?.y ?? scatter(), before?.angle ?? Math.random() * 6)
  swimmers.set(id, self)
  sendUpdate()
}

/** Untrusted bytes: anything but a valid place of a known swimmer is ignored. */
function moved(bytes) {
  let update
  try {
    update = JSON.parse(decoder.decode(bytes))
  } catch {
    return
  }
  const swimmer = swimmers.get(update?.id)
  const sane = [update?.x, update?.y, update?.angle, update?.momentum].every((value) => Number.isFinite(value) && Math.abs(value) < 1e7)
  if (swimmer && swimmer !== self && sane) swimmer.follow(update)
}

function sendUpdate() {
  if (!self) return
  const { id, x, y, angle, momentum, name } = self
  client.notify('World.Update', encoder.encode(JSON.stringify({ id, x, y, angle, momentum, name })))
  lastUpdate = performance.now()
}

find('say').addEventListener('submit', (event) => {
  event.preventDefault()
  const message = find('message').value.trim()
  if (message && !client.notify('World.Message', { message })) return
  find('message').value = ''
  find('message').blur()
})

addEventListener('keydown', ({ key, target }) => {
  if (key === 'Escape') find('message').blur()
  if (key === 'Enter' && target === document.body && self) find('message').focus()
})

function banner(text) {
  find('banner').textContent = text
  find('banner').hidden = !text
}

let last = performance.now()
function frame(now) {
  // After a pause, as in a hidden tab, go on instead of leaping.
  const seconds = Math.min(0.1, Math.max(0, (now - last) / 1000))
  last = now
  if (self) {
    const { turn, thrust } = steering.wish(self, pond)
    self.steer(seconds, turn, thrust)
    const moving = turn !== 0 || self.momentum > 0.01
    if (now - lastUpdate > (moving ? UPDATE_MOVING : UPDATE_RESTING)) sendUpdate()
  }
  for (const swimmer of swimmers.values()) swimmer.advance(seconds)
  pond.draw([...swimmers.values()], self, now / 1000, seconds)
  requestAnimationFrame(frame)
}
requestAnimationFrame(frame)

/** For tests: every swimmer's place, as this page sees it. */
window.tadpoles = {
  get self() {
    return self?.id ?? null
  },
  get swimmers() {
    return [...swimmers.values()].map(({ id, name, x, y, placed, bubbles }) => ({ id, name, x, y, placed, bubbles: bubbles.map(({ text }) => text) }))
  },
}
