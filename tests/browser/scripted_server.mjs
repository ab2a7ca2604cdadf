// A server made byte by byte for the tests of nano.js, so that client and server cannot share a misunderstanding.
import assert from 'node:assert/strict'
import { afterEach } from 'node:test'

import { WebSocket, WebSocketServer } from 'ws'

import { Client } from '../../examples/web/nano.js'

export const hex = (text) => Buffer.from(text.replaceAll(' ', ''), 'hex')
export const text = (bytes) => Buffer.from(bytes).toString()
export const ACK = '02000000'
export const HEARTBEAT = '03000000'

export const cleanup = []
afterEach(async () => {
  for (const undo of cleanup.splice(0).reverse()) await undo()
})

/**
 * A server that shakes hands and leaves the rest to `script(peer, count)`; `handshake` may be a function of these. A peer has `send`, `next`
 * (the next packet's bytes as hex), `close`, and `left`, a promise of the close code.
 */
export async function serve(script = () => {}, { handshake = { code: 200, sys: { heartbeat: 30 } }, port = 0 } = {}) {
  const server = new WebSocketServer({ host: '127.0.0.1', port })
  const peers = []
  server.on('connection', async (socket) => {
    const arrived = []
    const waiting = []
    socket.on('message', (data) => {
      for (let rest = data; rest.length; ) {
        const end = 4 + rest.readUIntBE(1, 3)
        const packet = rest.subarray(0, end).toString('hex')
        rest = rest.subarray(end)
        const resolve = waiting.shift()
        resolve ? resolve(packet) : arrived.push(packet)
      }
    })
    const peer = {
      send: (bytes) => socket.send(bytes),
      next: () => (arrived.length ? Promise.resolve(arrived.shift()) : new Promise((resolve) => waiting.push(resolve))),
      close: () => socket.terminate(),
      left: new Promise((resolve) => socket.on('close', resolve)),
    }
    peer.hello = JSON.parse(hex((await peer.next()).slice(8)))
    peers.push(peer)
    const reply = typeof handshake === 'function' ? await handshake(peer, peers.length) : handshake
    if (!reply) return
    peer.send(packet(1, JSON.stringify(reply)))
    if (reply.code === 200) assert.equal(await peer.next(), ACK)
    await script(peer, peers.length)
  })
  await new Promise((resolve) => server.on('listening', resolve))
  const stop = () => {
    for (const socket of server.clients) socket.terminate()
    return new Promise((resolve) => server.close(resolve))
  }
  cleanup.push(stop)
  return { url: `ws://127.0.0.1:${server.address().port}/nano`, port: server.address().port, peers, stop }
}

export function packet(type, body) {
  const bytes = Buffer.from(body)
  const head = Buffer.from([type, 0, 0, 0])
  head.writeUIntBE(bytes.length, 1, 3)
  return Buffer.concat([head, bytes])
}

export const response = (id, body, flag = 0x04) => packet(4, Buffer.concat([Buffer.from([flag, id]), Buffer.from(body)]))
export const push = (route, body) => packet(4, Buffer.concat([Buffer.from([0x06, route.length]), Buffer.from(route + body)]))

/** What a client's data packet says, from its hex: kind, id of a request, route, JSON body. */
export function heard(packet) {
  const bytes = hex(packet)
  assert.equal(bytes[0], 4, `a data packet: ${packet}`)
  const kind = bytes[4] >> 1
  const at = kind === 0 ? 6 : 5
  const end = at + 1 + bytes[at]
  return { kind, ...(kind === 0 ? { id: bytes[5] } : {}), route: text(bytes.subarray(at + 1, end)), body: JSON.parse(text(bytes.subarray(end))) }
}

export async function open(server, options = {}) {
  const client = new Client(server.url, { WebSocket, ...options })
  cleanup.push(() => client.close())
  await client.connect()
  return client
}

export function event(client, type) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no ${type} event within 5 s`)), 5000)
    client.addEventListener(type, ({ detail }) => (clearTimeout(timer), resolve(detail)), { once: true })
  })
}

export function pushed(client, route, options) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no push ${route} within 5 s`)), 5000)
    const off = client.on(route, (body) => (clearTimeout(timer), off(), resolve(body)), options)
  })
}
