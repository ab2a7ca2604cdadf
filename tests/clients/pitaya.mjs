// A stand-in for the clients of pitaya, a descendant of nano: Go (heartbeats in whole seconds, `sys.dict`) and C (zlib bodies).
// They know the error bit, and say in the handshake what they are.
// usage: node pitaya.mjs <port> (TCP)
import assert from 'node:assert/strict'
import { deflateSync } from 'node:zlib'

import { behaves, start, within } from './support.mjs'
import { TcpClient } from './tcp_client.mjs'

const COMPRESSED = 0x10

const go = {
  hello: { sys: { platform: 'mac', libVersion: '0.3.5-release', clientBuildNumber: '20', clientVersion: '2.1' }, user: { age: 30 } },
  dictionary({ dict = {} }) {
    return { codes: dict, routes: Object.fromEntries(Object.entries(dict).map(([route, code]) => [code, route])) }
  },
  kind: (flag) => (flag >> 1) & 7,
  heartbeat(client) {
    // Its ticker panics below one second and its decoder refuses fractions.
    assert(Number.isInteger(client.sys.heartbeat) && client.sys.heartbeat >= 1)
    setInterval(() => client.beat(), client.interval()).unref()
  },
}
const c = { ...go, body: (bytes) => ({ flag: COMPRESSED, bytes: deflateSync(bytes) }) }

const port = start()
const client = await within('handshake', TcpClient.connect(port, go))
await behaves(client, { emptyBodies: false })
assert.equal(client.marked, 3, 'each error reply has the error bit')

client.notify('T.Kick', 'another login')
assert.equal(await within('kick', client.next('end')), 'kick')
assert.equal(client.reason, '"another login"')

const compressing = await within('handshake', TcpClient.connect(port, c))
const reply = await within('reply to a compressed body', compressing.request('T.Typed', { a: 'zlib', n: 7 }))
assert.deepEqual(reply, { a: 'zlib', n: 7 })
assert.equal(compressing.connected(), true)
console.log('ok: stand-in for pitaya')
process.exit(0)
