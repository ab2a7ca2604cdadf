// The JavaScript client on a fake clock: slow timers of hidden pages, long times, reconnecting.
import assert from 'node:assert/strict'
import { afterEach, beforeEach, test } from 'node:test'

import { Client } from '../../examples/web/nano.js'
import { FakeClock, FakeSocket, packet } from './fake_platform.mjs'

const HEARTBEAT = 3
const DAY = 86_400_000
const MAX_DELAY = 0x7fffffff

let clock
beforeEach(() => {
  clock = new FakeClock()
})
afterEach(() => {
  clock.restore()
  delete globalThis.document
  delete globalThis.addEventListener
  delete globalThis.removeEventListener
})

/** Lets promises settle, on the real clock. */
const settle = () => new Promise((resolve) => setImmediate(resolve))

const handshake = (sys) => packet(1, JSON.stringify({ code: 200, sys }))

async function open(sys = {}, options = {}) {
  const client = new Client('ws://fake', { WebSocket: FakeSocket, ...options })
  const connected = client.connect()
  const socket = FakeSocket.last
  socket.accept()
  socket.deliver(handshake(sys))
  await connected
  return { client, socket }
}

function events(client) {
  const seen = []
  for (const type of ['kick', 'reconnecting', 'resumed', 'lost', 'reconnected', 'close']) client.addEventListener(type, ({ detail }) => seen.push({ type, ...detail }))
  return seen
}

const beats = (socket) => socket.sent.filter((bytes) => bytes[0] === HEARTBEAT).length

/** A server as nano is one: each interval it looks for a client that was silent for two, then sends its own heartbeat. */
function serve(socket, interval, { phase, latency }) {
  const server = { cut: null }
  let heard = clock.now
  socket.onsend = () => clock.outside(latency(), () => (heard = clock.now))
  const tick = () => {
    if (clock.now - heard >= 2 * interval) {
      server.cut = clock.now
      return socket.break()
    }
    clock.outside(latency(), () => socket.deliver(packet(HEARTBEAT)))
    clock.outside(interval, tick)
  }
  clock.outside(phase, tick)
  return server
}

test('a hidden page keeps its connection at any heartbeat interval', async () => {
  const cut = []
  for (const seconds of [1, 2, 5, 7, 10, 15, 20, 25, 30, 40, 45, 59, 60, 90]) {
    for (let alignment = 0; alignment < 60; alignment++) {
      const interval = seconds * 1000
      // Timers fire at whole minutes; the connection is made `alignment` seconds after one, the server ticks at any time beside.
      clock.now = alignment * 1000
      const { client, socket } = await open({ heartbeat: seconds })
      let draw = alignment
      const latency = () => ((draw = (draw * 1103515245 + 12345) % 2 ** 31), 5 + (draw % 120))
      const server = serve(socket, interval, { phase: (alignment * interval) / 60, latency })
      clock.hiddenAt = clock.now
      clock.advance(20 * 60_000)
      if (server.cut !== null || client.state !== 'open') cut.push(`${seconds} s, aligned ${alignment}: ${server.cut}`)
      client.close()
      await settle()
      clock.restore()
      clock = new FakeClock()
    }
  }
  assert.deepEqual(cut, [])
})

test('a visible page sends one heartbeat an interval, wherever the server is in its own', async () => {
  for (const phase of [0, 2400, 2600, 4999]) {
    const { client, socket } = await open({ heartbeat: 5 })
    serve(socket, 5000, { phase, latency: () => 1 })
    clock.advance(100_000)
    assert(beats(socket) >= 19 && beats(socket) <= 21, `${beats(socket)} heartbeats in 20 intervals, phase ${phase}`)
    client.close()
  }
})

test('a heartbeat of weeks neither beats nor ends early', async () => {
  const { client, socket } = await open({ heartbeat: 30 * 86_400 })
  clock.advance(29 * DAY)
  assert.deepEqual([client.state, beats(socket)], ['open', 0])
  clock.advance(2 * DAY)
  assert.equal(beats(socket), 1)
  clock.advance(28 * DAY)
  assert.equal(client.state, 'open')
  clock.advance(2 * DAY)
  assert.equal(client.state, 'closed')
  assert(clock.delays.every((ms) => ms <= MAX_DELAY), `${Math.max(...clock.delays)}`)
})

test('a timeout of Infinity or 0 is for ever, and one of weeks lasts weeks', async () => {
  for (const timeout of [Infinity, 0, 3e9]) {
    const { client, socket } = await open()
    let ended = null
    client.request('slow', {}, { timeout }).then((reply) => (ended = reply), (error) => (ended = error.code))
    clock.advance(2.9e9)
    await settle()
    assert.equal(ended, null, `timeout ${timeout}`)
    if (timeout === 3e9) {
      clock.advance(0.2e9)
      await settle()
      assert.equal(ended, 'NANO-408')
    } else {
      socket.deliver(packet(4, '\x04\x01"late"'))
      await settle()
      assert.equal(ended, 'late')
    }
    client.close()
  }
  assert(clock.delays.every((ms) => ms <= MAX_DELAY))
})

test('a connect timeout of Infinity waits for ever', async () => {
  const client = new Client('ws://fake', { WebSocket: FakeSocket, connectTimeout: Infinity })
  const connected = client.connect()
  FakeSocket.last.accept()
  clock.advance(60 * DAY)
  FakeSocket.last.deliver(handshake({}))
  await connected
  assert.equal(client.state, 'open')
})

test('a second handshake reply changes nothing and leaves no timer behind', async () => {
  const { client, socket } = await open({ heartbeat: 1 })
  serve(socket, 1000, { phase: 0, latency: () => 1 })
  const timers = clock.timers
  socket.deliver(handshake({ heartbeat: 0.1, dict: { onA: 1 } }))
  assert.equal(clock.timers, timers)
  clock.advance(60_000)
  assert.equal(client.state, 'open')
  client.close()
  assert.equal(clock.timers, 0)
})

test('after a refused handshake, a close and a lost connection no timer is left', async () => {
  const refused = new Client('ws://fake', { WebSocket: FakeSocket, reconnect: true })
  const connected = refused.connect()
  FakeSocket.last.accept()
  FakeSocket.last.deliver(packet(1, '{"code":501}'))
  await assert.rejects(connected, { code: 501 })
  assert.equal(clock.timers, 0)

  const { client, socket } = await open({ heartbeat: 5 }, { reconnect: true })
  const failed = assert.rejects(client.request('never', {}), { code: 'NANO-410' })
  socket.break()
  await failed
  assert.equal(clock.timers, 1, 'the next attempt')
  client.close()
  assert.equal(clock.timers, 0)
})

test('retry delays are spread over the whole of a doubling window, up to its longest', async () => {
  const shares = []
  for (let run = 0; run < 200; run++) {
    const { client, socket } = await open({}, { reconnect: { min: 1000, max: 4000, attempts: 5 } })
    const seen = events(client)
    socket.break()
    for (let attempt = 1; attempt <= 5; attempt++) {
      await settle()
      const { type, delay } = seen.at(-1)
      assert.equal(type, 'reconnecting')
      const window = Math.min(4000, 1000 * 2 ** (attempt - 1))
      assert(delay >= 0 && delay <= window, `attempt ${attempt} after ${delay} ms`)
      shares.push(delay / window)
      clock.advance(delay)
      await settle()
      FakeSocket.last.break()
    }
    await settle()
    assert.equal(client.state, 'closed')
  }
  const tenths = Array(10).fill(0)
  for (const share of shares) tenths[Math.min(9, Math.floor(share * 10))]++
  assert(tenths.every((count) => count > 50 && count < 160), `of 1000 delays by tenth of the window: ${tenths}`)
})

test('a retry window longer than a timer can count is waited for', async () => {
  const { client, socket } = await open({}, { reconnect: { min: 3e9, max: 3e9 } })
  const seen = events(client)
  const random = Math.random
  Math.random = () => 0.9
  socket.break()
  Math.random = random
  assert.equal(seen[0].delay, 2.7e9)
  clock.advance(2.6e9)
  await settle()
  assert.equal(client.state, 'reconnecting')
  assert.equal(FakeSocket.last, socket)
  clock.advance(0.2e9)
  await settle()
  assert.notEqual(FakeSocket.last, socket)
  client.close()
})

test('clients of a server that stops come back over a longer window', async () => {
  const delays = []
  for (let run = 0; run < 200; run++) {
    const { client, socket } = await open({}, { reconnect: { min: 500, max: 15_000 } })
    const seen = events(client)
    socket.deliver(packet(5, '{"reason":"server is shutting down"}'))
    assert.equal(seen[0].type, 'reconnecting')
    delays.push(seen[0].delay)
    client.close()
  }
  assert(delays.every((delay) => delay >= 0 && delay <= 5000))
  assert(delays.filter((delay) => delay > 2500).length > 60, 'spread over the window')
})

test('a kick says whether to connect again, and within which time', async () => {
  const kick = async (body, options = { reconnect: { min: 500 } }) => {
    const { client, socket } = await open({}, options)
    const seen = events(client)
    socket.deliver(packet(5, JSON.stringify(body)))
    await settle()
    client.close()
    return seen
  }
  const random = Math.random
  Math.random = () => 0.5
  for (const [body, delay] of [
    [{ reason: 'moved', reconnect: 'here', retryAfter: 60_000 }, 30_000],
    [{ reason: 'draining', reconnect: 'elsewhere', retryAfter: 2000 }, 1000],
    [{ reason: 'server is shutting down', reconnect: 'elsewhere', retryAfter: 0 }, 250],
    [{ reason: 'server is shutting down', reconnect: 'elsewhere' }, 2500],
    [{ reason: 'moved', reconnect: 'here', retryAfter: -1 }, 2500],
    [{ reason: 'moved', reconnect: 'here', retryAfter: 'soon' }, 2500],
    [{ reason: 'moved', reconnect: 'here', retryAfter: 1e300 }, 2500],
  ]) {
    const [first] = await kick(body)
    assert.deepEqual(first, { type: 'reconnecting', attempt: 1, delay, reason: body.reason }, JSON.stringify(body))
  }
  Math.random = random
  for (const body of [{ reason: 'banned', code: 'BANNED', reconnect: 'never' }, { reason: 'server is shutting down', code: 'X', reconnect: 'never' }, { reason: 'bye', code: 'X' }]) {
    const { reason, code } = body
    assert.deepEqual(await kick(body), [{ type: 'kick', reason, code }, { type: 'close', reason, kicked: true }])
  }
  const final = await kick({ reason: 'moved', code: 'MOVED', reconnect: 'here' }, {})
  assert.deepEqual(final[0], { type: 'kick', reason: 'moved', code: 'MOVED' })
})

test('a page that becomes visible beats at once and notices a dead connection within two intervals', async () => {
  const page = Object.assign(new EventTarget(), { hidden: false })
  globalThis.document = page
  const { client, socket } = await open({ heartbeat: 30 })
  clock.advance(20_000)
  page.hidden = true
  page.dispatchEvent(new Event('visibilitychange'))
  assert.equal(beats(socket), 0)
  page.hidden = false
  page.dispatchEvent(new Event('visibilitychange'))
  assert.equal(beats(socket), 1)
  clock.advance(31_000)
  assert.equal(client.state, 'open', 'the heartbeat of a living server may take an interval')
  clock.advance(29_000)
  assert.equal(client.state, 'closed')
})

test('a network that comes back ends the wait for the next attempt, but not the window of a server that stopped', async () => {
  const network = new EventTarget()
  globalThis.addEventListener = network.addEventListener.bind(network)
  globalThis.removeEventListener = network.removeEventListener.bind(network)
  const { client, socket } = await open({}, { reconnect: { min: 60_000 } })
  socket.break()
  await settle()
  assert.equal(FakeSocket.last, socket)
  network.dispatchEvent(new Event('online'))
  await settle()
  const second = FakeSocket.last
  assert.notEqual(second, socket)
  second.accept()
  second.deliver(handshake({}))
  await settle()
  assert.equal(client.state, 'open')

  second.deliver(packet(5, '{"reason":"server is shutting down"}'))
  await settle()
  network.dispatchEvent(new Event('online'))
  await settle()
  assert.equal(FakeSocket.last, second)
  client.close()
  network.dispatchEvent(new Event('online'))
  assert.equal(client.state, 'closed')
})

test('a client that resumes returns at once when the network is back, also on a hidden page', async () => {
  const network = new EventTarget()
  globalThis.addEventListener = network.addEventListener.bind(network)
  globalThis.removeEventListener = network.removeEventListener.bind(network)
  globalThis.document = Object.assign(new EventTarget(), { hidden: true })
  const resume = { token: 'T', window: 60, received: 0 }
  const { client, socket } = await open({ resume, heartbeat: 30 }, { resume: true })
  const seen = events(client)
  const answer = client.request('ask')
  network.dispatchEvent(new Event('online'))
  const second = FakeSocket.last
  assert.notEqual(second, socket)
  second.accept()
  second.deliver(handshake({ resume }))
  assert.deepEqual(second.sent.map((bytes) => bytes[0]), [1, 2, 4], 'handshake, acknowledgement, the request again')
  second.deliver(packet(4, '\x04\x01"answer"'))
  assert.equal(await answer, 'answer')
  assert.deepEqual(seen, [{ type: 'reconnecting', attempt: 1, delay: 0, reason: 'the network was away' }, { type: 'resumed' }])
  client.close()
})

test('while a client is away the attempts fit into the time for which the server keeps the session, and the last is at its end', async () => {
  const { client, socket } = await open({ resume: { token: 'T', window: 20, received: 0 } }, { resume: true })
  const seen = events(client)
  const failed = assert.rejects(client.request('ask', {}, { timeout: 0 }), { code: 'NANO-410' })
  const begun = clock.now
  let lost = null
  client.addEventListener('lost', () => (lost ??= clock.now))
  socket.break()
  while (lost === null) {
    await settle()
    clock.advance(100)
    await settle()
    if (FakeSocket.last.readyState !== 3) FakeSocket.last.break()
  }
  await failed
  const delays = seen.slice(0, seen.findIndex(({ type }) => type === 'lost')).filter(({ type }) => type === 'reconnecting').map(({ delay }) => delay)
  assert(delays.length >= 10, `${delays.length} attempts`)
  assert(delays.every((delay) => delay <= 2000), `${delays}`)
  assert(lost - begun >= 20_000 && lost - begun <= 20_200, `after ${lost - begun} ms`)
  client.close()
})
