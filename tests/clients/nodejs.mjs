// npm's pomelo-nodejsclient-websocket, as it is, against a running peer.
// usage: node nodejs.mjs <port>
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createRequire } from 'node:module'

import { behaves, start, within } from './support.mjs'

// It still calls `new Buffer`.
process.noDeprecation = true
const Pomelo = createRequire(import.meta.url)('pomelo-nodejsclient-websocket')

const quiet = () => {}
const logger = { debug: quiet, info: quiet, warn: quiet, error: console.error, trace: quiet }
const port = start()
const pomelo = new Pomelo({ logger })

// The client knows no path: it makes its address of host and port, so that the path rides in the port.
const connected = new Promise((resolve) => pomelo.init({ host: '127.0.0.1', port: `${port}/nano`, user: { name: 'Ann' } }, resolve))
assert.equal(await within('handshake', connected), null)

await behaves({
  request: (route, msg) => new Promise((resolve, reject) => pomelo.request(route, msg, (error, body) => (error ? reject(error) : resolve(body)))),
  notify: (route, msg) => pomelo.notify(route, msg),
  next: async (event) => (await once(pomelo, event))[0],
  interval: () => pomelo.heartbeatInterval,
  connected: () => pomelo.socket?.readyState === 1,
})

// This client hands no reason over with a kick; that it reached the client is what can be seen.
const kicked = within('kick', once(pomelo, 'onKick'))
const closed = within('close after the kick', once(pomelo, 'close'))
pomelo.notify('T.Kick', 'another login')
await kicked
await closed
pomelo.disconnect()
console.log('ok: pomelo-nodejsclient-websocket')
process.exit(0)
