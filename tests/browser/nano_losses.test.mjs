// The JavaScript client at a real server, over connections that are lost at random: nothing is lost, repeated or reordered.
// NANO_SECONDS and NANO_CLIENTS make it long, NANO_SEED repeats a run; PEER is the server's program.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'

import { WebSocket } from 'ws'

import { Client } from '../../examples/web/nano.js'
import { LossyProxy, seeded } from './lossy_proxy.mjs'
import { startPeer } from './peer.mjs'
import { cleanup } from './scripted_server.mjs'

const SECONDS = Number(process.env.NANO_SECONDS ?? 3)
const CLIENTS = Number(process.env.NANO_CLIENTS ?? 4)
const SEED = Number(process.env.NANO_SEED ?? Date.now() % 1e6)
/** Losses by silence are noticed after two heartbeats. */
const HEARTBEAT = 300
const OPTIONS = { WebSocket, resume: true, reconnect: { min: 20, max: 300 }, connectTimeout: 1000, timeout: 60_000 }
/** How many requests may wait. */
const IN_FLIGHT = 20
const LIMIT = SECONDS * 1000 + 60_000

let peer
before(async () => (peer = await startPeer(['--hb', `${HEARTBEAT}ms`, '--resume', '30s'])))
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

/** Sends numbers in every way that a client can until the time is over; returns what it has sent, received and met. */
async function play(name, end, random) {
  const proxy = LossyProxy.random(random, 8000)
  const { client, events } = await open(proxy)
  const [echoed, flooded, heard] = [[], [], new Map()]
  client.on('onEcho', (n) => echoed.push(n))
  client.on('onFlood', (n) => flooded.push(n))
  client.on('onBroadcast', ({ from, n }) => heard.set(from, [...(heard.get(from) ?? []), n]))
  await client.connect()
  await client.request('Grp.Join', {})
  const { id } = await client.request('T.Ids', {})
  await joined()
  let sent = 0
  const waiting = new Set()
  const answered = []
  while (Date.now() < end) {
    const n = sent++
    const filler = 'x'.repeat(Math.floor(random() * 200))
    assert(client.notify('Echo.Push', n))
    assert(client.notify('Grp.Send', { from: name, n }))
    const answer = client.request('Echo.Echo', { n, filler }).then((body) => {
      assert.deepEqual(body, { n, filler })
      answered.push(n)
      waiting.delete(answer)
    })
    waiting.add(answer)
    while (waiting.size >= IN_FLIGHT && Date.now() < end + 30_000) await Promise.race(waiting)
    if (random() < 0.3) await sleep(random() * 20)
  }
  proxy.heal()
  await Promise.all(waiting)
  return { name, id, client, proxy, events, sent, answered, echoed, heard }
}

/** Resolves when all clients have joined the group. */
let joined

test('numbered messages of both sides arrive once and in order', { timeout: LIMIT }, async () => {
  console.log(`NANO_SEED=${SEED}`)
  let left = CLIENTS
  let all
  const complete = new Promise((resolve) => (all = resolve))
  joined = () => (--left ? complete : (all(), complete))
  const end = Date.now() + SECONDS * 1000
  const runs = await Promise.all(upTo(CLIENTS).map((name) => play(name, end, seeded(SEED * 1000 + name))))
  for (const { name, id, client, events, sent, answered, echoed, heard } of runs) {
    const missing = () => `client ${name}: ${echoed.length} of ${sent} pushes, ${runs.map(({ name, sent }) => `${heard.get(name)?.length} of ${sent}`)} broadcasts`
    await until(missing, () => echoed.length >= sent && runs.every(({ name, sent }) => heard.get(name)?.length >= sent))
    assert.deepEqual(echoed, upTo(sent), `pushes to client ${name}`)
    assert.deepEqual(answered, upTo(sent), `answers to client ${name}`)
    for (const from of runs) assert.deepEqual(heard.get(from.name), upTo(from.sent), `broadcasts of ${from.name} to ${name}`)
    assert.deepEqual({ ...events, reconnecting: 0, resumed: 0 }, { reconnecting: 0, resumed: 0, lost: 0, reconnected: 0, kick: 0, close: 0 })
    assert(events.resumed >= 1, `client ${name} was never away`)
    assert.equal((await client.request('T.Ids', {})).id, id, 'the same session')
  }
  const losses = runs.map(({ proxy }) => proxy.losses).reduce((sum, next) => Object.fromEntries(Object.entries(sum).map(([how, count]) => [how, count + next[how]])))
  const resumed = runs.reduce((sum, { events }) => sum + events.resumed, 0)
  console.log(`${runs.reduce((sum, { sent }) => sum + sent, 0)} times three messages, ${resumed} returns, losses: ${JSON.stringify(losses)}`)

  // A final close ends a session at once.
  const { client: other } = await open(new LossyProxy())
  for (const { client } of runs) client.close()
  await other.connect()
  await until(() => 'closed sessions stay in their group', async () => (await other.request('Grp.Count', {})) === 0)
})

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
