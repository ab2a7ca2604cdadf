// The JavaScript client against a scripted server, byte by byte.
import assert from 'node:assert/strict'
import { test } from 'node:test'

import { WebSocket } from 'ws'

import { Client, Kind, PacketDecoder, ReplyError, connect, decodeMessage, encodeMessage, encodePacket } from '../../examples/web/nano.js'
import { HEARTBEAT, cleanup, event, hex, open, packet, push, pushed, response, serve, text } from './scripted_server.mjs'

test('a packet is its type, three bytes of length and its body', () => {
  assert.equal(Buffer.from(encodePacket(4, hex('0102'))).toString('hex'), '040000020102')
  assert.equal(Buffer.from(encodePacket(4, new Uint8Array(70000))).subarray(0, 4).toString('hex'), '04011170')
  assert.throws(() => encodePacket(4, new Uint8Array(0x1000000)), RangeError)
})

test('packets decode the same wherever their bytes are split', () => {
  const stream = Buffer.concat([packet(1, '{}'), packet(3, ''), packet(4, 'x'.repeat(300)), packet(4, 'y')])
  const whole = new PacketDecoder().feed(stream)
  assert.deepEqual(whole.map(({ type, body }) => [type, body.length]), [[1, 2], [3, 0], [4, 300], [4, 1]])
  for (let cut = 0; cut <= stream.length; cut++) {
    const decoder = new PacketDecoder()
    const parts = [...decoder.feed(stream.subarray(0, cut)), ...decoder.feed(stream.subarray(cut))]
    assert.deepEqual(parts.map(({ type, body }) => [type, text(body)]), whole.map(({ type, body }) => [type, text(body)]))
  }
  const bytewise = new PacketDecoder()
  assert.equal([...stream].flatMap((byte) => bytewise.feed(Uint8Array.of(byte))).length, 4)
  assert.throws(() => new PacketDecoder().feed(hex('06000000')), /packet type 6/)
})

test('messages have the bytes nano gives them', () => {
  const bytes = (message, codes) => Buffer.from(encodeMessage(message, codes)).toString('hex')
  const codes = new Map([['Echo.Echo', 1], ['onEcho', 2], ['Dict.known', 300]])
  const body = Buffer.from('b')
  assert.equal(bytes({ kind: Kind.REQUEST, id: 1, route: 'Echo.Echo', body }), '0001094563686f2e4563686f62')
  assert.equal(bytes({ kind: Kind.REQUEST, id: 5, route: 'Echo.Echo', body }, codes), '0105000162')
  assert.equal(bytes({ kind: Kind.NOTIFY, route: 'Dict.known', body }, codes), '03012c62')
  assert.equal(bytes({ kind: Kind.NOTIFY, route: 'onX', body }, codes), '02036f6e5862')
  assert.equal(bytes({ kind: Kind.RESPONSE, id: 300, body, error: true }, codes), '24ac0262')
  for (const [id, varint] of [[127, '7f'], [128, '8001'], [300, 'ac02'], [16384, '808001'], [2 ** 32 + 5, '8580808010'], [Number.MAX_SAFE_INTEGER, 'ffffffffffffff0f']]) {
    assert.equal(bytes({ kind: Kind.RESPONSE, id }), '04' + varint)
    assert.equal(decodeMessage(hex('04' + varint)).id, id)
  }
  assert.throws(() => bytes({ kind: Kind.NOTIFY, route: 'r'.repeat(256) }), RangeError)
})

test('messages decode to what was encoded, and fail when cut short', () => {
  const codes = new Map([['onEcho', 2]])
  const routes = new Map([[2, 'onEcho']])
  for (const message of [
    { kind: Kind.PUSH, id: 0, route: 'onEcho', error: false, body: Uint8Array.of(1) },
    { kind: Kind.REQUEST, id: 200, route: 'räum.join', error: false, body: new Uint8Array() },
    { kind: Kind.RESPONSE, id: 9, route: '', error: true, body: Uint8Array.of(0, 255) },
  ]) {
    assert.deepEqual(decodeMessage(encodeMessage(message, codes), routes), message)
  }
  for (const bytes of ['', '00', '0080', '0001', '000105aa', '0700', '08']) assert.throws(() => decodeMessage(hex(bytes), routes), Error)
  assert.throws(() => decodeMessage(hex('070009'), routes), /code 9/)
})

test('the handshake carries user data both ways', async () => {
  const server = await serve(undefined, { handshake: { code: 200, sys: {}, user: { motd: 'hi' } } })
  const client = await open(server, { user: { token: 't' } })
  assert.deepEqual(server.peers[0].hello.user, { token: 't' })
  assert.equal(typeof server.peers[0].hello.sys.type, 'string')
  assert.deepEqual(client.user, { motd: 'hi' })
  assert.equal(client.state, 'open')
})

test('the handshake names the trace of the client, where it has one', async () => {
  const server = await serve()
  const traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'
  await open(server, { traceparent, tracestate: 'vendor=1' })
  await open(server)
  const [traced, plain] = server.peers.map((peer) => peer.hello.sys)
  assert.equal(traced.traceparent, traceparent)
  assert.equal(traced.tracestate, 'vendor=1')
  assert.deepEqual(Object.keys(plain), ['type', 'version', 'errorFlag'])
})

test('a refused handshake, a silent server and no server reject connect', async () => {
  const refusing = await serve(undefined, { handshake: { code: 501, msg: 'too old' } })
  await assert.rejects(connect(refusing.url, { WebSocket, reconnect: true }), { code: 501, msg: 'too old' })
  const silent = await serve(undefined, { handshake: null })
  await assert.rejects(connect(silent.url, { WebSocket, connectTimeout: 50 }), /no handshake within 50 ms/)
  await silent.stop()
  await assert.rejects(connect(silent.url, { WebSocket }), { code: 'NANO-410' })
})

test('close while connecting rejects connect', async () => {
  const server = await serve(undefined, { handshake: null })
  const client = new Client(server.url, { WebSocket })
  const connected = client.connect()
  client.close('changed my mind')
  await assert.rejects(connected, /changed my mind/)
  await assert.rejects(client.connect(), /closed/)
})

test('requests get their own replies, in any order', async () => {
  const server = await serve(async (peer) => {
    assert.equal(await peer.next(), '0400000e' + '0001' + '09' + Buffer.from('room.join{}').toString('hex'))
    await peer.next()
    peer.send(response(2, '"two"'))
    peer.send(response(1, '{"code":0}'))
  })
  const client = await open(server)
  const replies = await Promise.all([client.request('room.join'), client.request('room.join', { name: 'Ann' })])
  assert.deepEqual(replies, [{ code: 0 }, 'two'])
})

test('an error reply rejects with code, msg and metadata', async () => {
  const server = await serve(async (peer) => {
    await peer.next()
    peer.send(response(1, '{"code":"ROOM-FULL","msg":"the room is full","metadata":{"limit":"4"}}', 0x24))
    await peer.next()
    peer.send(response(2, 'not json'))
  })
  const client = await open(server)
  await assert.rejects(client.request('room.join'), (error) => {
    assert(error instanceof ReplyError)
    const { code, msg, metadata } = error
    assert.deepEqual({ code, msg, metadata }, { code: 'ROOM-FULL', msg: 'the room is full', metadata: { limit: '4' } })
    return true
  })
  await assert.rejects(client.request('room.join'), { code: 'NANO-400' })
})

test('a request without a reply times out, and a late reply is dropped', async () => {
  const server = await serve(async (peer) => {
    await peer.next()
    await peer.next()
    peer.send(response(1, '"late"'))
    peer.send(response(2, '"in time"'))
  })
  const client = await open(server)
  await assert.rejects(client.request('slow', {}, { timeout: 20 }), { code: 'NANO-408' })
  assert.equal(await client.request('fast'), 'in time')
})

test('a lost connection rejects what was in flight and ends a client that does not reconnect', async () => {
  const server = await serve(async (peer) => {
    await peer.next()
    peer.close()
  })
  const client = await open(server)
  const closed = event(client, 'close')
  await assert.rejects(client.request('room.join'), { code: 'NANO-410' })
  assert.deepEqual(await closed, { reason: 'connection closed (1006)', kicked: false })
  await assert.rejects(client.request('room.join'), { code: 'NANO-410' })
  assert.equal(client.notify('room.message', {}), false)
})

test('raw bodies pass through in both directions', async () => {
  const server = await serve(async (peer) => {
    assert.equal(await peer.next(), '04000006' + '020161' + '0001ff')
    peer.send(push('update', '\u0001'))
    assert.equal(await peer.next(), '04000005' + '0001' + '0161' + '07')
    peer.send(response(1, hex('00ff')))
  })
  const client = await open(server)
  const update = pushed(client, 'update', { raw: true })
  assert.equal(client.notify('a', Uint8Array.of(0, 1, 255)), true)
  assert.deepEqual([...(await update)], [1])
  assert.deepEqual([...(await client.request('a', Uint8Array.of(7).buffer, { raw: true }))], [0, 255])
})

test('pushes arrive over split and shared frames, until unsubscribed; a throwing handler affects no other', async (t) => {
  const errors = t.mock.method(console, 'error', () => {})
  const server = await serve(async (peer) => {
    const bytes = Buffer.concat([push('onA', '1'), push('onA', '2'), push('onEnd', '')])
    for (const byte of bytes) peer.send(Buffer.of(byte))
    await peer.next()
    peer.send(bytes)
  })
  const client = new Client(server.url, { WebSocket })
  cleanup.push(() => client.close())
  const [kept, ended] = [[], []]
  client.on('onA', () => {
    throw new Error('mine')
  })
  client.on('onA', (body) => kept.push(body))
  const off = client.on('onA', (body) => ended.push(body))
  let end = pushed(client, 'onEnd')
  await client.connect()
  assert.equal(await end, undefined)
  off()
  end = pushed(client, 'onEnd')
  client.notify('again')
  await end
  assert.deepEqual({ kept, ended }, { kept: [1, 2, 1, 2], ended: [1, 2] })
  assert.equal(errors.mock.callCount(), 4)
})

test('the dictionary is used in both directions', async () => {
  const server = await serve(
    async (peer) => {
      assert.equal(await peer.next(), '04000005' + '03012c' + '7b7d')
      peer.send(packet(4, hex('07 ffff 31')))
    },
    { handshake: { code: 200, sys: { dict: { 'room.message': 300, onMessage: 65535 } } } },
  )
  const client = await open(server)
  const message = pushed(client, 'onMessage')
  client.notify('room.message')
  assert.equal(await message, 1)
})

test('a heartbeat goes out every interval', async () => {
  const server = await serve(undefined, { handshake: { code: 200, sys: { heartbeat: 0.05 } } })
  const client = await open(server)
  const [peer] = server.peers
  for (let beats = 0; beats < 5; beats++) {
    assert.equal(await peer.next(), HEARTBEAT)
    peer.send(hex(HEARTBEAT))
  }
  assert.equal(client.state, 'open')
})

test('two intervals of silence end the connection', async () => {
  const server = await serve(undefined, { handshake: { code: 200, sys: { heartbeat: 0.05 } } })
  const started = Date.now()
  const client = await open(server)
  assert.match((await event(client, 'close')).reason, /nothing heard for 0.1 s/)
  assert(Date.now() - started >= 95, 'two intervals, not less')
  await server.peers[0].left
})

test('a kick carries its reason and is final', async () => {
  const server = await serve((peer) => peer.send(packet(5, '{"reason":"another login"}')))
  const client = new Client(server.url, { WebSocket, reconnect: { min: 1 } })
  const [kick, close] = [event(client, 'kick'), event(client, 'close')]
  client.addEventListener('reconnecting', () => assert.fail('reconnects after a kick'))
  await client.connect()
  assert.deepEqual(await kick, { reason: 'another login' })
  assert.deepEqual(await close, { reason: 'another login', kicked: true })
  await server.peers[0].left
  assert.equal(client.state, 'closed')
})

test('a kick of a server that stops is not final for a client that reconnects', async () => {
  const kick = packet(5, '{"reason":"server is shutting down"}')
  const server = await serve((peer, count) => count === 1 && peer.send(kick))
  const client = new Client(server.url, { WebSocket, reconnect: { min: 1 } })
  cleanup.push(() => client.close())
  client.addEventListener('kick', () => assert.fail('takes it personally'))
  const [reconnecting, reconnected] = [event(client, 'reconnecting'), event(client, 'reconnected')]
  await client.connect()
  assert.equal((await reconnecting).reason, 'server is shutting down')
  await reconnected
  assert.equal(client.state, 'open')

  const other = await serve((peer) => peer.send(kick))
  const patient = new Client(other.url, { WebSocket })
  const closed = event(patient, 'close')
  await patient.connect()
  assert.deepEqual(await closed, { reason: 'server is shutting down', kicked: true })
})

test('bytes that are not nano end the connection with a reason', async () => {
  const server = await serve((peer) => peer.send(hex('09000000')))
  const client = new Client(server.url, { WebSocket })
  const close = event(client, 'close')
  await client.connect()
  assert.match((await close).reason, /packet type 9/)
})

test('a broken connection is made again, with the same handlers, after a random part of a growing window', async () => {
  const first = await serve((peer) => peer.send(push('onHello', '1')))
  const client = new Client(first.url, { WebSocket, reconnect: { min: 20, max: 60 } })
  cleanup.push(() => client.close())
  const hellos = []
  client.on('onHello', (body) => hellos.push(body))
  const delays = []
  let thirdAttempt
  const third = new Promise((resolve) => (thirdAttempt = resolve))
  client.addEventListener('reconnecting', ({ detail }) => {
    assert.equal(detail.attempt, delays.push(detail.delay))
    if (detail.attempt === 3) thirdAttempt()
  })
  const greeted = pushed(client, 'onHello')
  await client.connect()
  await greeted
  const inFlight = assert.rejects(client.request('never'), { code: 'NANO-410' })
  await first.stop()
  await inFlight
  assert.equal(client.state, 'reconnecting')
  await assert.rejects(client.request('now'), { code: 'NANO-410' })
  await third
  const hello = pushed(client, 'onHello')
  const reconnected = event(client, 'reconnected')
  await serve((peer) => peer.send(push('onHello', '2')), { port: first.port })
  assert.equal(await hello, 2)
  await reconnected
  assert.deepEqual(hellos, [1, 2])
  for (const [index, delay] of delays.entries()) {
    const longest = Math.min(60, 20 * 2 ** index)
    assert(delay >= 0 && delay <= longest, `delay ${index + 1} is ${delay} ms`)
  }
})

test('reconnecting ends after its attempts, after a refusal, and on close', async () => {
  const server = await serve()
  const limited = await open(server, { reconnect: { min: 1, attempts: 2 } })
  const stopped = await open(server, { reconnect: true })
  const [limitedEnd, stoppedEnd, retry] = [event(limited, 'close'), event(stopped, 'close'), event(stopped, 'reconnecting')]
  await server.stop()
  await retry
  stopped.close()
  assert.equal((await stoppedEnd).reason, 'closed by this client')
  assert.equal((await limitedEnd).kicked, false)
  assert.deepEqual([limited.state, stopped.state], ['closed', 'closed'])

  const second = await serve()
  const refused = await open(second, { reconnect: { min: 10 } })
  await second.stop()
  const end = event(refused, 'close')
  await serve(undefined, { port: second.port, handshake: { code: 500, msg: 'go away' } })
  assert.equal((await end).reason, '500: go away')
})
