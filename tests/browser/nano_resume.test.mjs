// The JavaScript client returns to its session after lost connections: what is on the wire, byte by byte, and what the page learns.
import assert from 'node:assert/strict'
import { afterEach, test } from 'node:test'

import { WebSocket } from 'ws'

import { Client } from '../../examples/web/nano.js'
import { HEARTBEAT, cleanup, event, heard, hex, open, packet, push, pushed, response, serve } from './scripted_server.mjs'

const QUICK = { reconnect: { min: 1, max: 5 } }
const RESUME = { resume: true, ...QUICK }

afterEach(() => delete globalThis.document)

/** A handshake reply that grants a session. */
const grant = (resume, sys = {}) => ({ code: 200, sys: { heartbeat: 30, resume: { token: 'T1', window: 60, received: 0, ...resume }, ...sys } })
/** A heartbeat with a count. */
const count = (varint) => `03${(varint.length / 2).toString(16).padStart(6, '0')}${varint}`
const numbers = (length, from = 0) => Array.from({ length }, (_, index) => from + index)

function events(client) {
  const seen = []
  const types = ['kick', 'reconnecting', 'resumed', 'lost', 'reconnected', 'close']
  for (const type of types) client.addEventListener(type, ({ detail }) => (seen.push(type), seen.push(...(detail.reason && type !== 'reconnecting' ? [detail.reason] : []))))
  return seen
}

/** The bodies of the next data packets, in order; heartbeats between them are left out. */
async function bodies(peer, length) {
  const found = []
  while (found.length < length) {
    const next = await peer.next()
    if (!next.startsWith('03')) found.push(heard(next).body)
  }
  return found
}

test('the option adds one field to the handshake, and without it there is none', async () => {
  const server = await serve()
  await open(server)
  await open(server, { resume: true })
  const sys = { type: 'nano.js', version: '1.0.0', errorFlag: true }
  assert.deepEqual(server.peers[0].hello, { sys, user: {} })
  assert.deepEqual(server.peers[1].hello, { sys: { ...sys, resume: {} }, user: {} })
})

test('a heartbeat counts what has arrived', async () => {
  const server = await serve(
    async (peer) => {
      assert.equal(await peer.next(), count('00'))
      for (const body of numbers(255)) peer.send(push('onA', `${body}`))
      while ((await peer.next()) !== count('ff01')) {}
      for (const body of numbers(45)) peer.send(push('onA', `${body}`))
      while ((await peer.next()) !== count('ac02')) {}
      peer.send(push('onEnd', '1'))
    },
    { handshake: grant({}, { heartbeat: 0.05 }) },
  )
  const client = await open(server, RESUME)
  assert.equal(await pushed(client, 'onEnd'), 1)
})

test('a count is sent early after 256 messages or 32 KiB, and as the answer to a question if there is something new', async () => {
  const server = await serve(
    async (peer) => {
      for (const body of numbers(256)) peer.send(push('onA', `${body}`))
      assert.equal(await peer.next(), count('8002'))
      peer.send(push('onA', `"${'a'.repeat(32 * 1024)}"`))
      assert.equal(await peer.next(), count('8102'))
      peer.send(hex(count('00')))
      peer.send(push('onA', '1'))
      peer.send(hex(count('00')))
      assert.equal(await peer.next(), count('8202'))
      // An end that answers with a count it has sent would never stop.
      peer.send(hex(count('00')))
      peer.send(push('onEnd', '1'))
      assert.deepEqual(heard(await peer.next()), { kind: 1, route: 'end', body: 1 })
      peer.send(push('onEnd', '2'))
    },
    { handshake: grant() },
  )
  const client = await open(server, RESUME)
  await pushed(client, 'onEnd')
  const end = pushed(client, 'onEnd')
  client.notify('end', 1)
  assert.equal(await end, 2)
})

test('only a count that repeats the last one is answered: ends that both send all the time would never stop', async () => {
  const server = await serve(
    async (peer) => {
      assert.deepEqual(await bodies(peer, 2), [0, 1])
      peer.send(push('onA', '1'))
      peer.send(hex(count('02')))
      peer.send(push('onNext', '1'))
      assert.deepEqual(heard(await peer.next()), { kind: 1, route: 'end', body: 1 })
      peer.send(hex(count('02')))
      assert.equal(await peer.next(), count('02'))
      peer.send(push('onEnd', '1'))
    },
    { handshake: grant() },
  )
  const client = await open(server, RESUME)
  const [next, end] = [pushed(client, 'onNext'), pushed(client, 'onEnd')]
  for (const body of numbers(2)) client.notify('tell', body)
  await next
  client.notify('end', 1)
  await end
})

test('a question that tells something new is sent again, so that it repeats a count', async () => {
  const server = await serve(
    async (peer) => {
      peer.send(push('onA', '1'))
      for (const body of numbers(3)) assert.deepEqual(heard(await peer.next()).body, body)
      assert.deepEqual([await peer.next(), await peer.next()], [count('01'), count('01')])
      peer.send(push('onEnd', '1'))
    },
    { handshake: grant() },
  )
  const client = await open(server, { ...RESUME, resume: { messages: 4 } })
  const end = pushed(client, 'onEnd')
  await pushed(client, 'onA')
  for (const body of numbers(3)) client.notify('tell', body)
  await end
})

test('after a loss the client returns, sends again what is missing, in order, and a request gets its answer', async () => {
  const server = await serve(
    async (peer, connection) => {
      if (connection === 1) {
        assert.deepEqual(await bodies(peer, 5), ['first', 0, 1, 2, 3])
        peer.send(push('onA', '1'))
        peer.send(push('onA', '2'))
        return peer.send(push('onA', '"cut"'))
      }
      assert.deepEqual(peer.hello.sys.resume, { token: 'T1', received: 3 })
      assert.deepEqual(await bodies(peer, 5), [2, 3, 'away', 4, 'asked while away'])
      peer.send(response(1, '"answer"'))
      peer.send(response(2, '"second"'))
    },
    { handshake: (_, connection) => grant(connection === 1 ? {} : { token: 'T2', received: 3 }, { dict: {} }) },
  )
  const client = await open(server, RESUME)
  const seen = events(client)
  const cut = new Promise((resolve) => client.on('onA', (body) => body === 'cut' && resolve()))
  const answer = client.request('ask', 'first')
  for (const body of numbers(4)) assert(client.notify('tell', body))
  await cut
  let second
  client.addEventListener('reconnecting', () => {
    assert(client.notify('tell', 'away'))
    assert(client.notify('tell', 4))
    second = client.request('ask', 'asked while away')
    assert.deepEqual([client.state, client.resumable], ['reconnecting', true])
  }, { once: true })
  server.peers[0].close()
  assert.equal(await answer, 'answer')
  assert.equal(await second, 'second')
  assert.deepEqual(seen, ['reconnecting', 'resumed'])
  assert.equal(client.state, 'open')
})

test('what the server has acknowledged is not sent again', async () => {
  const server = await serve(
    async (peer, connection) => {
      if (connection === 1) {
        await bodies(peer, 3)
        peer.send(hex(count('02')))
        return peer.send(push('onA', '1'))
      }
      assert.deepEqual(await bodies(peer, 1), [2])
      peer.send(push('onEnd', '1'))
    },
    { handshake: (_, connection) => grant(connection === 1 ? {} : { received: 2 }) },
  )
  const client = await open(server, RESUME)
  const [seen, end] = [pushed(client, 'onA'), pushed(client, 'onEnd')]
  for (const body of numbers(3)) client.notify('tell', body)
  await seen
  server.peers[0].close()
  await end
})

test('the page learns that it is back before it gets what it has missed', async () => {
  const server = await serve(
    (peer, connection) => {
      if (connection === 1) return peer.close()
      peer.send(Buffer.concat([push('onA', '1'), push('onA', '2')]))
    },
    { handshake: grant() },
  )
  const client = new Client(server.url, { WebSocket, ...RESUME })
  cleanup.push(() => client.close())
  const seen = events(client)
  const both = new Promise((resolve) => client.on('onA', (body) => (seen.push(body), body === 2 && resolve())))
  await client.connect()
  await both
  assert.deepEqual(seen, ['reconnecting', 'resumed', 1, 2])
})

test('a return that is cut is tried again, with the token of the last reply that arrived', async () => {
  const tokens = []
  const server = await serve(
    (peer, connection) => (connection === 1 || connection === 4 ? peer.close() : peer.send(push('onEnd', '1'))),
    {
      handshake: (peer, connection) => {
        tokens.push(peer.hello.sys.resume.token)
        // The second and third are lost before the reply.
        if (connection === 2 || connection === 3) return void peer.close()
        return grant({ token: `T${connection}` })
      },
    },
  )
  const client = await open(server, RESUME)
  await pushed(client, 'onEnd')
  assert.deepEqual(tokens, [undefined, 'T1', 'T1', 'T1', 'T4'])
})

test('a return keeps user, dictionary and handlers', async () => {
  const server = await serve(
    async (peer, connection) => {
      if (connection === 1) return peer.close()
      peer.send(packet(4, hex('07 0007 31')))
    },
    { handshake: (_, connection) => (connection === 1 ? { ...grant({}, { dict: { onA: 7 } }), user: { name: 'Ann' } } : grant()) },
  )
  const client = new Client(server.url, { WebSocket, ...RESUME })
  cleanup.push(() => client.close())
  const coded = pushed(client, 'onA')
  await client.connect()
  assert.equal(await coded, 1)
  assert.deepEqual(client.user, { name: 'Ann' })
})

for (const [said, reason] of [['expired', 'expired'], ['a reason of later', 'unknown']]) {
  test(`a session that is lost (${said}) is followed by a new one, and its requests fail`, async () => {
    const server = await serve(
      async (peer, connection) => {
        if (connection === 1) return
        assert.deepEqual(await bodies(peer, 1), ['anew'])
        assert.equal(await peer.next(), count('00'), 'counts begin anew')
      },
      { handshake: (_, connection) => ({ ...grant(connection === 1 ? {} : { token: 'T2', lost: said }, { heartbeat: 0.2 }), user: connection }) },
    )
    const client = await open(server, RESUME)
    const seen = events(client)
    const failed = assert.rejects(client.request('ask', 1), { code: 'NANO-410', msg: `the session is lost: ${reason}` })
    client.notify('tell', 'lost with it')
    client.addEventListener('lost', () => assert(client.notify('tell', 'anew')))
    const back = event(client, 'reconnected')
    server.peers[0].close()
    await failed
    assert.deepEqual(await back, { user: 2 })
    assert.deepEqual(seen, ['reconnecting', 'lost', reason, 'reconnected'])
  })
}

test('a client that does not reconnect ends when its session is lost', async () => {
  const server = await serve(undefined, { handshake: (_, connection) => grant(connection === 1 ? {} : { lost: 'unknown' }) })
  const client = await open(server, { resume: true, reconnect: false })
  const seen = events(client)
  const close = event(client, 'close')
  server.peers[0].close()
  await close
  assert.deepEqual(seen, ['reconnecting', 'lost', 'unknown', 'close', 'the session is lost'])
  assert.equal(await server.peers[1].next(), '05000000')
  assert.equal(await server.peers[1].left, 1000)
})

test('a server that comes back without resume has lost the session', async () => {
  const server = await serve(undefined, { handshake: (_, connection) => (connection === 1 ? grant() : { code: 200, sys: {} }) })
  const client = await open(server, RESUME)
  const seen = events(client)
  const back = event(client, 'reconnected')
  server.peers[0].close()
  await back
  assert.deepEqual(seen, ['reconnecting', 'lost', 'unsupported', 'reconnected'])
})

test('at a server that resumes nothing all is as without the option', async () => {
  const server = await serve(undefined, { handshake: { code: 200, sys: { heartbeat: 0.05 } } })
  const client = await open(server, RESUME)
  const seen = events(client)
  assert.equal(await server.peers[0].next(), HEARTBEAT)
  const failed = assert.rejects(client.request('ask', 1), { code: 'NANO-410' })
  const back = event(client, 'reconnected')
  client.addEventListener('reconnecting', () => assert.deepEqual([client.resumable, client.notify('tell', 1)], [false, false]), { once: true })
  server.peers[0].close()
  await failed
  await back
  assert.deepEqual(server.peers[1].hello.sys.resume, {})
  assert.deepEqual(seen, ['reconnecting', 'reconnected'])
})

test('a session whose time is over without a server is lost, and the attempts go on', async () => {
  const server = await serve(undefined, { handshake: grant({ window: 0.2 }) })
  const patient = await open(server, RESUME)
  const final = await open(server, { ...RESUME, reconnect: false })
  const seen = [events(patient), events(final)]
  const failed = [patient, final].map((client) => assert.rejects(client.request('ask', 1), { code: 'NANO-410' }))
  const [lost, close] = [event(patient, 'lost'), event(final, 'close')]
  const begun = Date.now()
  await server.stop()
  assert.deepEqual(await lost, { reason: 'expired' })
  await close
  assert(Date.now() - begun >= 200, 'not before the time is over')
  await Promise.all(failed)
  const back = event(patient, 'reconnected')
  const next = await serve(undefined, { port: server.port, handshake: grant() })
  await back
  assert.deepEqual(next.peers[0].hello.sys.resume, {})
  assert.deepEqual(seen.map((types) => types.filter((type) => type !== 'reconnecting').slice(0, 2)), [['lost', 'expired'], ['lost', 'expired']])
  assert.equal(final.state, 'closed')
})

test('close is final: a kick packet, then the code 1000', async () => {
  const server = await serve(undefined, { handshake: grant() })
  const client = await open(server, RESUME)
  client.notify('tell', 1)
  const seen = events(client)
  const failed = assert.rejects(client.request('ask', 1), { code: 'NANO-410' })
  client.close()
  await failed
  const [peer] = server.peers
  await bodies(peer, 2)
  assert.equal(await peer.next(), '05000000')
  assert.equal(await peer.left, 1000)
  assert.deepEqual(seen, ['close', 'closed by this client'])
  assert.equal(server.peers.length, 1)
})

test('a loss is no final close, and a client that is closed while away does not return', async () => {
  const server = await serve(undefined, { handshake: grant({}, { heartbeat: 0.05 }) })
  const client = await open(server, { ...RESUME, reconnect: { min: 60_000 } })
  const seen = events(client)
  const away = event(client, 'reconnecting')
  await away
  assert.notEqual(await server.peers[0].left, 1000)
  const failed = assert.rejects(client.request('ask', 1), { code: 'NANO-410' })
  client.close()
  await failed
  assert.deepEqual(seen, ['reconnecting', 'close', 'closed by this client'])
  assert.equal(client.notify('tell', 1), false)
})

test('a client that is closed during its return ends the session', async () => {
  let replies
  const asked = new Promise((resolve) => (replies = resolve))
  const server = await serve(undefined, { handshake: (peer, connection) => (connection === 1 ? grant() : void replies(peer)) })
  const client = await open(server, RESUME)
  server.peers[0].close()
  const peer = await asked
  client.close()
  assert.equal(await peer.next(), '05000000')
  assert.equal(await peer.left, 1000)
})

test('a kick ends the session', async () => {
  const server = await serve((peer) => peer.send(packet(5, '{"reason":"another login","code":"NANO-409"}')), { handshake: grant() })
  const client = new Client(server.url, { WebSocket, ...RESUME })
  const [seen, close] = [events(client), event(client, 'close')]
  await client.connect()
  await close
  assert.deepEqual(seen, ['kick', 'another login', 'close', 'another login'])
  assert.equal(server.peers.length, 1)
})

test('after a kick that asks to connect again there is a new session', async () => {
  const server = await serve(
    (peer, connection) => connection === 1 && peer.send(packet(5, '{"reason":"moved","reconnect":"here","retryAfter":1}')),
    { handshake: grant() },
  )
  const client = new Client(server.url, { WebSocket, ...RESUME })
  cleanup.push(() => client.close())
  const seen = events(client)
  const back = event(client, 'reconnected')
  await client.connect()
  await back
  assert.deepEqual(seen, ['lost', 'closed', 'reconnecting', 'reconnected'])
  assert.deepEqual(server.peers[1].hello.sys.resume, {})
})

test('a message that does not fit into what is kept is refused, until the server acknowledges', async () => {
  const server = await serve(
    async (peer) => {
      assert.deepEqual([await peer.next(), await peer.next()].map((packet) => heard(packet).body), [0, 1])
      // Asks for a count when half is used: not before, and once.
      assert.deepEqual(heard(await peer.next()).body, 2)
      assert.equal(await peer.next(), count('00'))
      assert.deepEqual(heard(await peer.next()).body, 3)
      peer.send(hex(count('04')))
      peer.send(push('onA', '1'))
      assert.deepEqual(await bodies(peer, 1), [6])
      peer.send(push('onEnd', '1'))
    },
    { handshake: grant() },
  )
  const client = await open(server, { ...RESUME, resume: { messages: 4 } })
  const acknowledged = pushed(client, 'onA')
  for (const body of numbers(4)) assert(client.notify('tell', body))
  const errors = console.error
  console.error = () => {}
  assert.equal(client.notify('tell', 4), false)
  console.error = errors
  await assert.rejects(client.request('ask', 5), { code: 'NANO-429', msg: /4 messages, 44 bytes/ })
  await acknowledged
  const end = pushed(client, 'onEnd')
  assert(client.notify('tell', 6))
  await end

  const small = await open(await serve(undefined, { handshake: grant() }), { ...RESUME, resume: { bytes: 10 } })
  const first = small.request('ask', 'longer than ten bytes')
  await assert.rejects(small.request('ask', 1), { code: 'NANO-429' })
  small.close()
  await assert.rejects(first, { code: 'NANO-410' })
})

for (const [what, bytes] of [['larger than what was sent', '02'], ['smaller than before', '00'], ['that does not end', '8080'], ['with bytes behind it', '0101']]) {
  test(`a count ${what} ends the session`, async () => {
    const server = await serve(
      async (peer, connection) => {
        if (connection > 1) return
        await peer.next()
        peer.send(hex(count('01')))
        peer.send(hex(count(bytes)))
        assert.equal(await peer.next(), '05000000')
      },
      { handshake: grant() },
    )
    const client = await open(server, RESUME)
    const seen = events(client)
    const back = event(client, 'reconnected')
    client.notify('tell', 1)
    await back
    assert.deepEqual(seen, ['lost', 'invalid', 'reconnecting', 'reconnected'])
    assert.deepEqual(server.peers[1].hello.sys.resume, {})
  })
}

test('a reply with an impossible count ends the session', async () => {
  for (const received of [1, -1]) {
    const handshake = (peer, connection) => (connection === 2 ? void peer.send(packet(1, JSON.stringify(grant({ received })))) : grant())
    const server = await serve(undefined, { handshake })
    const client = await open(server, RESUME)
    const seen = events(client)
    const back = event(client, 'reconnected')
    server.peers[0].close()
    await back
    assert.equal(await server.peers[1].next(), '05000000')
    assert.deepEqual(seen, ['reconnecting', 'lost', 'invalid', 'reconnecting', 'reconnected'])
    assert.deepEqual(server.peers[2].hello.sys.resume, {})
  }
})

test('a hidden page, whose timers are slow, returns at once', async () => {
  globalThis.document = Object.assign(new EventTarget(), { hidden: true })
  const server = await serve(undefined, { handshake: grant() })
  const client = await open(server, { resume: true, reconnect: { min: 60_000, max: 60_000 } })
  const back = event(client, 'resumed')
  server.peers[0].close()
  await back
})

test('a handshake reply that is no JSON fails the connection', async () => {
  const server = await serve(undefined, { handshake: (peer) => void peer.send(packet(1, 'nonsense')) })
  await assert.rejects(open(server), { code: 'NANO-410', msg: /cannot read what the server sent/ })
})
