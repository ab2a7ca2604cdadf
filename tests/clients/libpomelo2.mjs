// A stand-in for NetEase's libpomelo2, the C library below cocos2d-x, Unity, Java, Lua and Python bindings, as of its commit 63e4ffd:
// it reads message types without a mask, knows `routeToCode` and not `dict`, and waits for the server's heartbeat before its next one.
// usage: node libpomelo2.mjs <port> (TCP; no pushes in the dictionary)
import assert from 'node:assert/strict'

import { behaves, start, within } from './support.mjs'
import { TcpClient } from './tcp_client.mjs'

const dialect = {
  hello: { sys: { type: 'desktop', version: '0.3.5-release' } },
  dictionary: ({ useDict, routeToCode, codeToRoute }) => (useDict ? { codes: routeToCode, routes: codeToRoute } : {}),
  kind: (flag) => flag >> 1,
  heartbeat(client) {
    const interval = client.interval()
    let timeout = null
    const wait = () =>
      setTimeout(() => {
        client.beat()
        timeout = setTimeout(() => client.end('heartbeat timeout'), 2 * interval)
      }, interval).unref()
    client.onbeat = () => {
      // One that comes while none is awaited is ignored.
      if (!timeout) return
      clearTimeout(timeout)
      timeout = null
      wait()
    }
    wait()
  },
}

const client = await within('handshake', TcpClient.connect(start(), dialect))
await behaves(client, { emptyBodies: false })
assert.equal(client.marked, 0, 'no reply has the error bit')

client.notify('T.Kick', 'another login')
assert.equal(await within('kick', client.next('end')), 'kick')
assert.equal(client.reason, '"another login"')
console.log('ok: stand-in for libpomelo2')
process.exit(0)
