// This project's own nano.js under Node, against a running peer.
// usage: node nanojs.mjs <port>
import assert from 'node:assert/strict'

import { WebSocket } from 'ws'

import { Client, ReplyError } from '../../examples/web/nano.js'
import { behaves, start, within } from './support.mjs'

let heartbeat = 0
/** Reads the interval out of the handshake reply, for the client keeps it to itself. */
class Listening extends WebSocket {
  constructor(url) {
    super(url)
    this.on('message', (bytes) => {
      const packet = Buffer.from(bytes)
      if (packet[0] === 1) heartbeat = JSON.parse(packet.subarray(4)).sys.heartbeat * 1000
    })
  }
}

const client = new Client(`ws://127.0.0.1:${start()}/nano`, { WebSocket: Listening })
await within('handshake', client.connect())
const detail = (event) => new Promise((resolve) => client.addEventListener(event, ({ detail }) => resolve(detail), { once: true }))
let refused = 0

await behaves({
  request: (route, msg) =>
    client.request(route, msg).catch((error) => {
      assert(error instanceof ReplyError)
      refused++
      return { code: error.code, msg: error.msg }
    }),
  notify: (route, msg) => assert(client.notify(route, msg)),
  next: (route) => new Promise((resolve) => client.on(route, resolve)),
  interval: () => heartbeat,
  connected: () => client.state === 'open',
})
assert.equal(refused, 3, 'error replies reject')

const [kick, close] = [within('kick', detail('kick')), within('close after the kick', detail('close'))]
client.notify('T.Kick', 'another login')
assert.equal((await kick).reason, '"another login"')
assert.equal((await close).kicked, true)
console.log('ok: nano.js')
process.exit(0)
