// npm's pomelo-jsclient-websocket, as it is, in Chromium, against a running peer.
// usage: node jsclient.mjs <port>
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { createRequire } from 'node:module'

import { chromium } from 'playwright-core'

import { behaves, start, within } from './support.mjs'

const ARGS = '--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync'

// The scripts expect the surroundings a bundler gave them: a `module` to export to, and an event emitter on the window.
const SHIM = `
  window.module = { exports: {} }
  window.EventEmitter = class {
    on(event, handler) { ((this.handlers ??= {})[event] ??= []).push(handler) }
    emit(event, ...args) { for (const handler of this.handlers?.[event] ?? []) handler(...args) }
  }`

// What the tests ask of the page.
const PROBE = `
  window.seen = {}
  window.waiting = {}
  window.watch = (event) => pomelo.on(event, (body) => {
    const waiter = (waiting[event] ?? []).shift()
    waiter ? waiter(body) : (seen[event] ??= []).push(body)
  })
  window.next = (event) => new Promise((resolve) => seen[event]?.length ? resolve(seen[event].shift()) : (waiting[event] ??= []).push(resolve))
  for (const event of ['onEcho', 'onBroadcast', 'onKick', 'close']) watch(event)
  window.ask = (route, msg) => new Promise((resolve) => pomelo.request(route, msg, resolve))
  window.begin = (port) => new Promise((resolve) => pomelo.init({ host: '127.0.0.1', port: port + '/nano', user: {} }, (socket) => { window.socket = socket; resolve(true) }))`

const port = start()
const require = createRequire(import.meta.url)
const source = (name) => readFile(require.resolve(name), 'utf8')
const scripts = ['shim', 'protocol', 'client', 'probe'].map((name) => `<script src="${name}.js"></script>`)
const files = {
  '/': ['text/html', `<!doctype html><title>pomelo</title><link rel="icon" href="data:,">${scripts.join('')}`],
  '/shim.js': ['text/javascript', SHIM],
  '/protocol.js': ['text/javascript', await source('pomelo-protocol/lib/protocol.js')],
  '/client.js': ['text/javascript', await source('pomelo-jsclient-websocket/lib/pomelo-client.js')],
  '/probe.js': ['text/javascript', PROBE],
}
const pages = createServer(({ url }, response) => {
  const [type, body] = files[url]
  response.writeHead(200, { 'content-type': `${type}; charset=utf-8` }).end(body)
})
await new Promise((resolve) => pages.listen(0, '127.0.0.1', resolve))

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ARGS.split(' ') })
const page = await browser.newPage()
const errors = []
page.on('pageerror', (error) => errors.push(error))

let heartbeat = 0
page.on('websocket', (socket) => {
  socket.on('framereceived', ({ payload }) => {
    const bytes = Buffer.from(payload)
    if (bytes[0] === 1) heartbeat = JSON.parse(bytes.subarray(4)).sys.heartbeat * 1000
  })
})

try {
  await page.goto(`http://127.0.0.1:${pages.address().port}/`)
  assert.equal(await within('handshake', page.evaluate((port) => begin(port), port)), true)
  const client = {
    request: (route, msg) => page.evaluate(([route, msg]) => ask(route, msg), [route, msg]),
    notify: (route, msg) => page.evaluate(([route, msg]) => pomelo.notify(route, msg), [route, msg]),
    next: (event) => page.evaluate((event) => next(event), event),
    interval: () => heartbeat,
    connected: () => page.evaluate(() => socket.readyState === 1),
  }
  await behaves(client, { emptyBodies: false })

  await page.evaluate(() => pomelo.notify('T.Kick', 'another login'))
  const { reason } = await within('kick', page.evaluate(() => next('onKick')))
  // The body of T.Kick is the reason, and a body is what this client writes: JSON, quotes and all.
  assert.equal(reason, '"another login"')
  await within('close after the kick', page.evaluate(() => next('close').then(() => true)))
  assert.deepEqual(errors, [])
  console.log('ok: pomelo-jsclient-websocket')
} catch (error) {
  console.error(error, ...errors)
  process.exitCode = 1
} finally {
  await browser.close()
  pages.close()
}
