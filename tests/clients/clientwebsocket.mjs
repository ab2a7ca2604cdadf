// npm's pomelo-client-websocket, as it is, against a running peer.
// usage: node clientwebsocket.mjs <port>
import assert from 'node:assert/strict'
import { createRequire } from 'node:module'

import { behaves, start, within } from './support.mjs'

const Pomelo = createRequire(import.meta.url)('pomelo-client-websocket')

const port = start()
const pomelo = new Pomelo()
const once = (event) => new Promise((resolve) => pomelo.once(event, resolve))

const socket = await within('handshake', new Promise((resolve) => pomelo.initByUrl(`ws://127.0.0.1:${port}/nano`, { user: { name: 'Ann' } }, resolve)))

await behaves(
  {
    request: (route, msg) => new Promise((resolve) => pomelo.request(route, msg, resolve)),
    notify: (route, msg) => pomelo.notify(route, msg),
    next: once,
    interval: () => pomelo.heartbeatInterval,
    connected: () => socket.readyState === 1,
  },
  // It writes ids big-endian. The server reads 128 as 1 then, as Go nano does, so that its callback never comes.
  { pipelined: 100, emptyBodies: false },
)

const [kicked, closed] = [within('kick', once('onKick')), within('close after the kick', once('close'))]
pomelo.notify('T.Kick', 'another login')
await kicked
await closed
assert.equal(socket.readyState, 3)
console.log('ok: pomelo-client-websocket')
process.exit(0)
