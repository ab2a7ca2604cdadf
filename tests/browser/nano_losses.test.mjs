// The JavaScript client at a real server, over connections that are lost. PEER is the server's program. Random losses under load are in the
// soak, `cargo test --test resume -- --ignored hundred`.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'

import { WebSocket } from 'ws'

import { Client } from '../../examples/web/nano.js'
import { LossyProxy } from './lossy_proxy.mjs'
import { startPeer } from './peer.mjs'
import { cleanup } from './scripted_server.mjs'

const OPTIONS = { WebSocket, resume: true, reconnect: { min: 20, max: 300 }, connectTimeout: 1000, timeout: 60_000 }

let peer
before(async () => (peer = await startPeer(['--resume', '30s'])))
after(() => peer.kill())

/** A client behind a proxy of its own. */
async function open(proxy, to = peer.port) {
  const client = new Client(`ws://127.0.0.1:${await proxy.start(to)}/nano`, OPTIONS)
  cleanup.push(() => proxy.stop(), () => client.close())
  const events = { reconnecting: 0, resumed: 0, lost: 0, reconnected: 0, kick: 0, close: 0 }
  for (const type of Object.keys(events)) client.addEventListener(type, () => events[type]++)
  return { client, events }
}

async function until(what, holds, ms = 20_000) {
  const end = Date.now() + ms
  while (!(await holds())) {
    assert(Date.now() < end, what())
    await sleep(10)
  }
}

const upTo = (count) => Array.from({ length: count }, (_, n) => n)

test('pushes that come while the client is away wait for it', async () => {
  const proxy = new LossyProxy()
  const { client, events } = await open(proxy)
  const flooded = []
  client.on('onFlood', (bytes) => flooded.push(Number(new TextDecoder().decode(bytes))), { raw: true })
  await client.connect()
  const resumed = new Promise((resolve) => client.addEventListener('resumed', resolve, { once: true }))
  const failed = client.request('T.Flood', new TextEncoder().encode('5000'))
  await until(() => 'no push arrives', () => flooded.length > 0)
  proxy.cut()
  await sleep(100)
  proxy.heal()
  await resumed
  assert.equal(await failed, 0)
  assert.deepEqual(flooded, upTo(5000))
  assert.equal(events.lost, 0)
})

test('a client returns through another gate of the cluster, and back, and misses nothing', async () => {
  const gate = (...more) => startPeer(['--client', '127.0.0.1:0', '--resume', '30s', ...more])
  const first = await gate('--is-master')
  cleanup.push(first.kill)
  const second = await gate('--master', first.nodes)
  cleanup.push(second.kill)
  const proxy = new LossyProxy()
  const { client, events } = await open(proxy, first.port)
  const [echoed, flooded] = [[], []]
  client.on('onEcho', (n) => echoed.push(n))
  client.on('onFlood', (bytes) => flooded.push(Number(new TextDecoder().decode(bytes))), { raw: true })
  await client.connect()
  await client.request('T.Bind', 7, { raw: true })
  const { id, uid } = await client.request('T.Ids', {})
  const sent = []
  for (const [round, gate] of [second, first, second].entries()) {
    const failed = client.request('T.Flood', 1000)
    await until(() => 'no push arrives', () => flooded.length > round * 1000)
    proxy.cut()
    for (let n = 0; n < 10; n++) {
      client.notify('Echo.Push', sent.length)
      sent.push(sent.length)
    }
    proxy.heal(gate.port)
    assert.equal(await failed, 0)
    const ids = await client.request('T.Ids', {})
    assert.deepEqual([ids.id, ids.uid], [id, uid], 'the same session')
    assert.equal(events.resumed, round + 1)
  }
  assert.deepEqual(echoed, sent)
  assert.deepEqual(flooded, [0, 1, 2].flatMap(() => upTo(1000)))
  assert.equal(events.lost, 0)
})

test('a server that was killed has lost the session, and the client goes on in a new one', async () => {
  const first = await startPeer(['--resume', '30s'])
  const proxy = new LossyProxy()
  const { client, events } = await open(proxy, first.port)
  await client.connect()
  const failed = assert.rejects(client.request('T.Sleep', new TextEncoder().encode('300')), { code: 'NANO-410' })
  await first.kill()
  const second = await startPeer(['--resume', '30s'], first.port)
  cleanup.push(second.kill)
  await failed
  await until(() => 'no new session', () => events.reconnected === 1)
  assert.deepEqual(await client.request('Echo.Echo', { n: 1 }), { n: 1 })
  assert.equal(events.lost, 1)
})

test('a client that stays away for too long has lost its session', async () => {
  const short = await startPeer(['--resume', '200ms'])
  cleanup.push(short.kill)
  const proxy = new LossyProxy()
  const { client, events } = await open(proxy, short.port)
  await client.connect()
  const [reason, back] = ['lost', 'reconnected'].map((type) => new Promise((resolve) => client.addEventListener(type, ({ detail }) => resolve(detail.reason))))
  proxy.cut()
  assert.equal(await reason, 'expired')
  proxy.heal()
  await back
  assert.deepEqual(await client.request('Echo.Echo', { n: 1 }), { n: 1 })
  assert.equal(events.resumed, 0)
})
