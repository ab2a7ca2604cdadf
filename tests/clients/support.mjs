// What the client tests share.
import assert from 'node:assert/strict'

/** The port from the command line `<port>`; a test that is not done after a minute has failed. */
export function start() {
  const [port] = process.argv.slice(2)
  if (!/^\d+$/.test(port ?? '')) {
    console.error(`usage: node ${process.argv[1].split('/').at(-1)} <port of a peer with WebSocket path /nano and a heartbeat of 1s or 2s>`)
    process.exit(2)
  }
  setTimeout(() => {
    console.error('not done after 60 s')
    process.exit(1)
  }, 60_000).unref()
  return port
}

/** Rejects if `promise` has not settled in time, naming what it waited for. */
export async function within(what, promise, ms = 5000) {
  let timer
  const late = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error(`${what}: nothing after ${ms} ms`)), ms)))
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}

/**
 * What every client must manage, whatever it is made of. `client` has `request(route, msg)`, `notify(route, msg)`, `next(event)`, `interval()`
 * in ms, and `connected()`; all but `notify` may return promises. `pipelined` is how many requests are sent at once;
 * `emptyBodies` is false for a client that throws where a push has no body.
 */
export async function behaves(client, { pipelined = 300, emptyBodies = true } = {}) {
  const request = (route, msg) => within(`reply of ${route}`, client.request(route, msg))
  const event = (name) => within(`event ${name}`, client.next(name))

  assert.deepEqual(await request('Echo.Echo', { hello: 'wörld', list: [1, 2.5, null] }), { hello: 'wörld', list: [1, 2.5, null] })
  assert.deepEqual(await request('T.Typed', { a: '<&>', n: 7 }), { a: '<&>', n: 7 })
  const long = 'x'.repeat(60_000)
  assert.deepEqual(await request('Echo.Echo', { long }), { long })
  const many = Array.from({ length: pipelined }, (_, n) => request('T.Typed', { a: 'many', n }))
  assert.deepEqual((await Promise.all(many)).map(({ n }) => n), [...many.keys()], 'each request gets its own reply')

  await client.notify('Echo.Sink', { into: 'nowhere' })
  let push = event('onEcho')
  await client.notify('Echo.Push', { pushed: true })
  assert.deepEqual(await push, { pushed: true })
  await request('Grp.Join', {})
  push = event('onBroadcast')
  await client.notify('Grp.Send', { to: 'all' })
  assert.deepEqual(await push, { to: 'all' })

  const unknown = await request('Nope.Nope', {})
  assert.equal(unknown.code, 'NANO-404')
  assert.equal(typeof unknown.msg, 'string')
  const refused = await request('T.Err', { a: '', n: 0 })
  assert.equal(refused.code, 'T-ERR')
  assert.equal(refused.msg, 'handler says no')
  const panicked = await request('T.Panic', { a: '', n: 0 })
  assert.equal(panicked.code, 'NANO-500')
  assert.equal(typeof panicked.msg, 'string')
  assert.deepEqual(await request('Echo.Echo', { still: 'here' }), { still: 'here' })

  if (emptyBodies) {
    await client.notify('T.PushEmpty', {})
    assert.deepEqual(await request('Echo.Echo', { after: 'empty' }), { after: 'empty' })
  }

  // A client without heartbeats is closed at the third interval. Waiting is the test.
  const interval = await client.interval()
  assert(interval >= 500 && interval <= 5000, `a heartbeat of ${interval} ms is not one to wait for`)
  await new Promise((resolve) => setTimeout(resolve, 4.2 * interval))
  assert.equal(await client.connected(), true, 'heartbeats kept the connection')
  assert.deepEqual(await request('Echo.Echo', { alive: true }), { alive: true })
}
