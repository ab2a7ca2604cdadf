// What platforms, servers and applications hand to the JavaScript client.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { runInNewContext } from 'node:vm'

import { WebSocket } from 'ws'

import { Client, connect } from '../../examples/web/nano.js'
import { FakeSocket, packet as fakePacket } from './fake_platform.mjs'
import { cleanup, event, hex, open, packet, push, pushed, response, serve } from './scripted_server.mjs'

const handshake = (sys) => fakePacket(1, JSON.stringify({ code: 200, sys }))

/** A client on a fake socket, before the handshake reply. */
function begin(options = {}) {
  const client = new Client('ws://fake', { WebSocket: FakeSocket, ...options })
  cleanup.push(() => client.close())
  const connected = client.connect()
  const socket = FakeSocket.last
  socket.accept()
  return { client, connected, socket }
}

async function shaken(options) {
  const { client, connected, socket } = begin(options)
  socket.deliver(handshake({}))
  await connected
  return { client, socket }
}

test('the handshake says that the error bit is known', async () => {
  const server = await serve()
  await open(server)
  assert.equal(server.peers[0].hello.sys.errorFlag, true)
})

test('a handshake reply with null, foreign or missing fields is as good as one without them', async () => {
  for (const reply of ['{"code":200,"sys":null}', '{"code":200}', '{"code":200,"sys":{"dict":null,"heartbeat":null},"user":null}', '{"code":200,"sys":7}']) {
    const { client, connected, socket } = begin()
    socket.deliver(fakePacket(1, reply))
    await connected
    assert.deepEqual([client.state, client.user], ['open', null], reply)
  }
  for (const reply of ['null', '', '7', '[]', '{"sys":null}']) {
    const { connected, socket } = begin()
    socket.deliver(fakePacket(1, reply))
    await assert.rejects(connected, /refused the handshake/, reply)
  }
})

test('a push with a code outside the dictionary costs the push only', async (t) => {
  const warned = t.mock.method(console, 'warn', () => {})
  const server = await serve(
    (peer) => {
      peer.send(packet(4, hex('07 0009 31')))
      peer.send(push('onA', '1'))
    },
    { handshake: { code: 200, sys: { dict: { onB: 1 } } } },
  )
  const client = new Client(server.url, { WebSocket })
  cleanup.push(() => client.close())
  const next = pushed(client, 'onA')
  await client.connect()
  assert.equal(await next, 1)
  assert.match(warned.mock.calls[0].arguments.join(' '), /route code 9/)
})

test('pushes before the handshake reply cost nothing', async (t) => {
  t.mock.method(console, 'warn', () => {})
  const { client, connected, socket } = begin()
  socket.deliver(Uint8Array.from(packet(4, hex('07 0001 31'))))
  socket.deliver(handshake({ dict: { onB: 1 } }))
  await connected
  assert.equal(client.state, 'open')
})

test('frames that come as Blobs are read in their order, the last ones before the close', async () => {
  const slow = (bytes, ms) => ({ arrayBuffer: () => new Promise((resolve) => setTimeout(() => resolve(bytes), ms)) })
  const { client, connected, socket } = begin()
  const got = []
  client.on('onA', (body) => got.push(body))
  const ended = event(client, 'close')
  const bytes = (body) => Uint8Array.from(push('onA', body)).buffer
  socket.deliver(new Blob([handshake({})]))
  socket.deliver(slow(bytes('1'), 20))
  socket.deliver(bytes('2'))
  socket.deliver(slow(bytes('3'), 1))
  socket.deliver(slow(Uint8Array.from(packet(5, '{"reason":"bye"}')).buffer, 5))
  socket.break()
  await connected
  assert.deepEqual(await ended, { reason: 'bye', kicked: true })
  assert.deepEqual(got, [1, 2, 3])
})

test('a Blob that cannot be read and a frame of another type end the connection by name', async () => {
  for (const [frame, reason] of [
    [{ arrayBuffer: () => Promise.reject(new Error('no memory')) }, /no memory/],
    [{ [Symbol.toStringTag]: 'Blob' }, /type Blob/],
    [[Uint8Array.of(3, 0, 0, 0)], /type Array/],
    [null, /type Null/],
  ]) {
    const { client, socket } = await shaken()
    const ended = event(client, 'close')
    socket.deliver(frame)
    assert.match((await ended).reason, reason)
  }
})

test('text frames and buffers of another realm are bytes', async () => {
  const { client, connected, socket } = begin()
  socket.deliver(Buffer.from(handshake({})).toString())
  await connected
  const got = pushed(client, 'onA')
  socket.deliver(push('onA', '"ä"').toString())
  assert.equal(await got, 'ä')
  const next = pushed(client, 'onA')
  const bytes = [...push('onA', '2')]
  socket.deliver(runInNewContext(`Uint8Array.from(${JSON.stringify(bytes)}).buffer`))
  assert.equal(await next, 2)
})

test('a body that is not JSON is refused where it is sent, and the connection stays', async (t) => {
  const errors = t.mock.method(console, 'error', () => {})
  const { client, socket } = await shaken()
  const circular = {}
  circular.self = circular
  for (const body of [{ id: 10n }, 10n, circular, () => {}, Symbol('s'), { toJSON: () => assert.fail('mine') }]) {
    assert.equal(client.notify('room.message', body), false)
    await assert.rejects(client.request('room.message', body), { name: 'ReplyError', code: 'NANO-400' })
  }
  assert.equal(errors.mock.callCount(), 6)
  assert.equal(client.notify('r'.repeat(256)), false)
  assert.equal(client.notify(undefined), false)
  await assert.rejects(client.request('r'.repeat(256)), { code: 'NANO-400' })
  assert.equal(client.state, 'open')
  const sent = socket.sent.length
  assert.equal(client.notify('room.message', { id: '9007199254740993' }), true)
  assert.equal(socket.sent.length, sent + 1)
})

test('user data that is not JSON rejects connect', async () => {
  const client = new Client('ws://fake', { WebSocket: FakeSocket, user: { id: 1n } })
  await assert.rejects(client.connect(), /BigInt/)
  assert.equal(client.state, 'closed')
})

test('views of other types are sent as their bytes', async () => {
  const { client, socket } = await shaken()
  const floats = new Float32Array([1, 2])
  client.notify('a', floats)
  client.notify('a', new DataView(floats.buffer, 4))
  const bodies = socket.sent.slice(-2).map((bytes) => Buffer.from(bytes.slice(7)).toString('hex'))
  assert.deepEqual(bodies, ['0000803f00000040', '00000040'])
})

test('a message over the packet limit is refused where it is sent, and the connection stays', async (t) => {
  const errors = t.mock.method(console, 'error', () => {})
  const { client } = await shaken({ reconnect: true })
  const content = 'x'.repeat(70_000)
  assert.equal(client.notify('room.message', { content }), false)
  assert.match(errors.mock.calls[0].arguments.join(' '), /room\.message.*70\d+ bytes.*65536/)
  await assert.rejects(client.request('room.message', { content }), { code: 'NANO-413' })
  assert.equal(client.state, 'open')
  // To the byte: flag, length of the route, route, body.
  assert.equal(client.notify('a', new Uint8Array(65_536 - 3)), true)
  assert.equal(client.notify('a', new Uint8Array(65_536 - 2)), false)

  const roomy = await shaken({ maxPacket: 100_000 })
  assert.equal(roomy.client.notify('room.message', { content }), true)
  const client2 = new Client('ws://fake', { WebSocket: FakeSocket, user: { token: content } })
  await assert.rejects(client2.connect(), { code: 'NANO-413' })
})

test('pushes and replies without a body are undefined, and null is null', async () => {
  const server = await serve(async (peer) => {
    peer.send(push('onX', ''))
    peer.send(push('onX', 'null'))
    await peer.next()
    peer.send(response(1, ''))
  })
  const client = new Client(server.url, { WebSocket })
  cleanup.push(() => client.close())
  const bodies = []
  client.on('onX', (body) => bodies.push(body))
  await client.connect()
  assert.equal(await client.request('a'), undefined)
  assert.deepEqual(bodies, [undefined, null])
})

test('a missing web API is named in the error', async () => {
  const file = fileURLToPath(new URL('../../examples/web/nano.js', import.meta.url))
  for (const name of ['TextEncoder', 'TextDecoder', 'EventTarget', 'CustomEvent']) {
    const script = `delete globalThis.${name}; import(${JSON.stringify(file)}).then(() => console.log('imported'), (error) => console.log(error.message))`
    const { stdout } = spawnSync(process.execPath, ['--eval', script], { encoding: 'utf8' })
    assert.match(stdout, new RegExp(`no ${name}; load a polyfill`))
  }
  const native = globalThis.WebSocket
  delete globalThis.WebSocket
  await assert.rejects(connect('ws://fake'), /no WebSocket/).finally(() => native && (globalThis.WebSocket = native))
})
