// The dashboard of a gate in a cluster: what it shows of nodes that work, block and die, and what an operator can do.
// usage: PEER=target/debug/examples/peer node admin.mjs http://127.0.0.1:9470/ shots
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import net from 'node:net'
import { createInterface } from 'node:readline'

import { see } from './room.mjs'
import { run } from './support.mjs'

const TOKEN = 'the-token-of-this-test'
const children = []

/** Starts a node, and returns its addresses by what it prints of them. */
async function start(program, flags) {
  const child = spawn(program, ['--listen', '127.0.0.1:0', ...flags, '--admin-token', TOKEN], { stdio: ['ignore', 'pipe', 'ignore'] })
  children.push(child)
  const addresses = { child }
  for await (const line of createInterface({ input: child.stdout })) {
    const [kind, address] = line.split(/ (?=\S*$)/)
    addresses[kind] = address
    if (kind === 'serving operators at') return addresses
  }
  throw new Error('the node has ended')
}

const packet = (kind, body) => Buffer.concat([Buffer.from([kind, body.length >> 16, (body.length >> 8) & 255, body.length & 255]), body])

/** A player who sends requests all the time. */
async function player(address) {
  const [host, port] = address.split(':')
  const socket = net.connect(Number(port), host)
  socket.on('error', () => {})
  await once(socket, 'connect')
  socket.write(packet(1, Buffer.from('{}')))
  await once(socket, 'data')
  socket.write(packet(2, Buffer.alloc(0)))
  const request = Buffer.concat([Buffer.from([0, 1, 9]), Buffer.from('Echo.Echo'), Buffer.from('{}')])
  const timer = setInterval(() => socket.write(packet(4, request)), 20)
  socket.on('close', () => clearInterval(timer))
  return socket
}

run(async ({ url, open, shoot }) => {
  const program = process.env.PEER ?? 'target/debug/examples/peer'
  try {
    const master = await start(program, ['--is-master', '--label', 'master', '--services', '', '--admin', '127.0.0.1:0'])
    const room = ['--master', master['serving nodes at'], '--admin', '127.0.0.1:0', '--services', 'Echo,T']
    const first = await start(program, [...room, '--label', 'room-1'])
    await start(program, [...room, '--label', 'room-2'])
    const admin = new URL(url).host
    const gate = await start(program, ['--master', master['serving nodes at'], '--label', 'gate <1>', '--client', '127.0.0.1:0', '--services', 'Grp', '--admin', admin])
    const players = await Promise.all(Array.from({ length: 5 }, () => player(gate['listening on'])))

    const page = await open({ viewport: { width: 1280, height: 900 } })
    await page.goto(url)
    await see(page, '#name', 'gate <1>')
    await see(page, '#state', 'ready')
    await see(page, '#members', /room-1[\s\S]*room-2/)
    await see(page, '#session-count', '5 on this node')
    await see(page, '#asked', 'on 4 of 4 nodes')
    await see(page, '#problems', /Nothing: /)
    await see(page, '#rates .legend', /forwarded [1-9]/)
    await see(page, '#latency .legend', /p99 \d/)
    await page.screenshot({ path: `${process.argv[3]}/admin-light.png`, fullPage: true })

    await page.locator('#sessions button').first().click()
    await see(page, '#dialog', /Give the token first/)
    assert.equal(await page.locator('#act').count(), 0)
    await page.keyboard.press('Escape')
    await page.click('#open-token')
    await page.fill('#field', TOKEN)
    await page.click('#act')
    await page.locator('#sessions button').first().click()
    await see(page, '#dialog dl', /connected to this node/)
    await shoot(page, 'admin-session')
    await page.click('#act')
    await see(page, '#session-count', '4 on this node')

    first.child.kill('SIGKILL')
    await see(page, '#members', /broken|none|suspect/)
    await see(page, '#problems', /room-1/)
    await page.screenshot({ path: `${process.argv[3]}/admin-broken.png`, fullPage: true })

    const phone = await open({ viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true, colorScheme: 'dark' })
    await phone.goto(url)
    await see(phone, '#rates .legend', /received [1-9]/)
    const wide = await phone.evaluate(() => document.documentElement.scrollWidth)
    assert(wide <= 390, `the page is ${wide} pixels wide on a phone`)
    await phone.screenshot({ path: `${process.argv[3]}/admin-phone.png`, fullPage: true })
    await phone.close()

    page.expectsOutage = true
    await page.click('#drain')
    await page.click('#act')
    await see(page, '#state', /not ready: draining|no answer/)
    if (gate.child.exitCode === null) await once(gate.child, 'exit')
    players.forEach((socket) => socket.destroy())
  } finally {
    children.forEach((child) => child.kill('SIGKILL'))
  }
})
