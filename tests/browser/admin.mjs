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

/** A player who sends requests all the time, or none. */
async function player(address, sends = true) {
  const [host, port] = address.split(':')
  const socket = net.connect(Number(port), host)
  socket.on('error', () => {})
  await once(socket, 'connect')
  socket.write(packet(1, Buffer.from('{}')))
  await once(socket, 'data')
  socket.write(packet(2, Buffer.alloc(0)))
  if (!sends) return socket
  const timer = setInterval(() => request(socket, 'Echo.Echo', '{}'), 20)
  socket.on('close', () => clearInterval(timer))
  return socket
}

function request(socket, route, body) {
  socket.write(packet(4, Buffer.concat([Buffer.from([0, 1, route.length]), Buffer.from(route), Buffer.from(body)])))
}

/** Opens the dialog of the first session. */
const first = (page) => page.locator('#sessions button').first().click()

async function search(page) {
  const find = async (by, term, text) => {
    await page.selectOption('#by', by)
    await page.fill('#term', term)
    await page.click('#search button')
    await see(page, '#sessions', text)
  }
  await find('id', 'guest', /“guest” is not the id of a session/)
  page.expectsErrors = /404/
  await find('id', '5', 'No session on this node has the id 5.')
  page.expectsErrors = null
  let located = 0
  const count = (request) => (located += Number(request.url().includes('/users/locate')))
  page.on('request', count)
  await find('user', 'Ann', 'No session on this node is bound to the user Ann.')
  // Two more refreshes of the page; the cluster is not asked at each.
  for (let refreshes = 0; refreshes < 2; refreshes++) await page.waitForResponse((answer) => answer.url().includes('/sessions?'))
  page.off('request', count)
  assert.equal(located, 1)
  await find('address', '127.', /\d\/s/)
  await page.selectOption('#by', 'busiest')
  await page.click('#search button')
  await see(page, '#session-count', /sent in the last/)
}

/** Waits until so many members own users. */
async function ownUsers(url, count) {
  const own = new RegExp(`^nano_directory_owners{.*} ${count}$`, 'm')
  for (;;) {
    const metrics = await fetch(`${url}metrics`).then((answer) => answer.text())
    if (own.test(metrics) && !/^nano_directory_view{.*} 0$/m.test(metrics)) return
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}

/** Searches for users until one is owned by the node that hangs. The page stays up to date meanwhile, and says what it does not know. */
async function searchInVain(page) {
  page.expectsErrors = /503/
  await page.selectOption('#by', 'user')
  for (let user = 1; ; user++) {
    assert(user < 40, 'a node of three owns no user')
    await page.fill('#term', `user ${user}`)
    await page.click('#search button')
    await see(page, '#sessions', `No session on this node is bound to the user user ${user}.`)
    if (await page.textContent('#session-count') !== '5 on this node') break
  }
  await see(page, '#session-count', /^5 on this node, unknown whether on others: a gate does not answer$/)
  assert(await page.isHidden('#problem'), 'this node answers')
  await page.selectOption('#by', 'busiest')
  await page.click('#search button')
  await see(page, '#session-count', /sent in the last/)
  page.expectsErrors = null
}

async function giveToken(page) {
  await first(page)
  await see(page, '#dialog', /Give the token first/)
  assert.equal(await page.locator('#act').count(), 0)
  await page.keyboard.press('Escape')
  await page.click('#open-token')
  page.expectsErrors = /401/
  await page.fill('#field', 'a guess')
  await page.click('#act')
  await see(page, '#dialog .error', /The token is wrong/)
  await page.fill('#field', 'guess')
  await page.click('#act')
  await see(page, '#dialog .error', 'The token is wrong.')
  assert(await page.isHidden('#problem'), 'the page goes on')
  await page.fill('#field', TOKEN)
  await page.click('#act')
  await page.waitForSelector('#drain:visible')
  page.expectsErrors = null
}

async function kick(page, shoot) {
  await first(page)
  await see(page, '#dialog dl', /connected to this node/)
  await see(page, '#dialog dl', /Sends\s*\d/)
  await see(page, '#dialog dl', /Received from it\s*[1-9]\d* messages?, [\d.]+ (KiB|B)\s*Sent to it\s*[1-9]\d* messages?, [\d.]+ (KiB|B)/)
  await shoot('admin-session')
  const title = await page.textContent('#dialog h2')
  await page.click('#act')
  await see(page, '#notice', new RegExp(`Kicked ${title.toLowerCase()} \\(127`))
  await shoot('admin-kicked')
  await see(page, '#session-count', /^5 on this node/)
  await page.locator('#sessions tbody tr:nth-child(5)').waitFor()
}

/** What is in force is seen before and after. */
async function changeFilter(page) {
  await page.click('#open-filter')
  const before = await page.textContent('#dialog dd')
  assert.equal(await page.inputValue('#field'), before)
  await page.fill('#field', ' ')
  await page.click('#act')
  await see(page, '#dialog .error', /Type a filter/)
  await page.fill('#field', 'gibberish')
  await page.click('#act')
  await see(page, '#dialog .error', /No part of it names a level/)
  await page.click('#act')
  await see(page, '#dialog dl', new RegExp(`Before\\s*${before}\\s*In force now\\s*gibberish=trace`))
  await page.keyboard.press('Escape')
  await page.click('#open-filter')
  await see(page, '#dialog dd', 'gibberish=trace')
  await page.fill('#field', before)
  await page.click('#act')
  await see(page, '#dialog dl', /In force now/)
  await page.keyboard.press('Escape')
}

/** A node that hangs, and one that takes the token no more, leave a page that says so. */
async function outage(page, gate) {
  gate.kill('SIGSTOP')
  await see(page, '#problem:visible', /This node does not answer.*What is below is of \d+:\d+:\d+\.$/)
  await page.waitForSelector('body.stale')
  gate.kill('SIGCONT')
  await page.waitForSelector('body:not(.stale)')
  page.expectsErrors = /401/
  await page.evaluate(() => sessionStorage.setItem('token', 'old'))
  await see(page, '#notice', /refused the token of this tab/)
  await page.waitForSelector('#drain', { state: 'hidden' })
  await page.click('#open-token')
  await page.fill('#field', TOKEN)
  await page.click('#act')
  await page.waitForSelector('#drain:visible')
  page.expectsErrors = null
}

/** A client that sends far more than the others has a row for as long as it does, and for a while after. */
async function flood(page, address) {
  const socket = await player(address, false)
  const timer = setInterval(() => Array.from({ length: 20 }, () => request(socket, 'Echo.Echo', '{}')), 10)
  await see(page, '#problems tr:not(.ended)', /client floods\s*gate <1>.*sends [\d,.k]+ messages per second.*127\.0\.0\.1/)
  clearInterval(timer)
  socket.destroy()
  await see(page, '#problems tr.ended', /client floods/)
  await see(page, '#session-count', /^5 on this node/)
}

/** The players are all behind one address. */
async function deny(page) {
  await first(page)
  await page.click('#more-act')
  await see(page, '#dialog h2', 'Deny 127.0.0.1?')
  await see(page, '#dialog p', /^5 of this node's sessions are of clients there/)
  await page.click('#act')
  await see(page, '#notice', /Denied 127.0.0.1 at/)
  await see(page, '#session-count', /^0 on this node/)
  await see(page, '#sessions', 'There is no session on this node.')
  await page.selectOption('#list-of', 'denied')
  await page.click('#list-form button')
  await see(page, '#listed', /127.0.0.1/)
  await page.click('#listed tbody button')
  await see(page, '#notice', /Allowed 127.0.0.1/)
  await see(page, '#listed', 'There are none.')
}

run(async ({ url, open, shoot }) => {
  const program = process.env.PEER ?? 'target/debug/examples/peer'
  try {
    const master = await start(program, ['--is-master', '--label', 'master', '--services', '', '--admin', '127.0.0.1:0'])
    const backend = ['--master', master['serving nodes at'], '--admin', '127.0.0.1:0', '--services', 'Echo,T', '--app-version', '1.4.2']
    const room1 = await start(program, [...backend, '--label', 'room-1'])
    await start(program, [...backend, '--label', 'room-2\u202e<b>'])
    const admin = new URL(url).host
    const gate = await start(program, ['--master', master['serving nodes at'], '--label', 'gate <1>', '--client', '127.0.0.1:0', '--services', 'Grp', '--admin', admin])
    const players = await Promise.all(Array.from({ length: 6 }, (_, index) => player(gate['listening on'], index < 5)))

    const page = await open({ viewport: { width: 1280, height: 900 } })
    await page.goto(url)
    await see(page, '#name', 'gate <1>')
    await see(page, '#state', 'ready')
    await see(page, '#members', /room-1[\s\S]*room-2/)
    await see(page, '#session-count', /^6 on this node, 5 sent in the last [\d.]+ s$/)
    assert.equal(await page.locator('#sessions tbody tr').count(), 6, 'those that send nothing are listed too')
    await see(page, '#sessions tbody tr:last-child td:nth-child(2)', '0/s')
    await see(page, '#asked', '4 of 4 nodes answered')
    await see(page, '#members', /Our sessions/)
    // Neither markup nor a change of direction.
    await see(page, '#members tbody', /room-2\\u\{202e\}<b>/)
    await see(page, '#map', /room-2\\u\{202e\}<b>/)
    await see(page, '#rates', /since this page was opened/)
    // Of another member: its version, what it uses, what it has to do, and for how long it runs.
    // Of two, as all players may be served by one.
    const rooms = page.locator('#members tbody tr', { hasText: 'room-' })
    const head = await page.locator('#members th').allTextContents()
    const cell = async (title, text) => {
      const places = rooms.locator(`td:nth-child(${head.indexOf(title) + 1})`)
      const failed = async () => assert.fail(`${title}: ${await places.allTextContents()}`)
      await places.filter({ hasText: text }).first().waitFor().catch(failed)
    }
    await cell('Version', /^1\.4\.2$/)
    await cell('CPU', /^\d+(\.\d)? \/ \d+$/)
    await cell('Memory', /^[\d.]+ MiB$/)
    await cell('Clients', /^0$/)
    await cell('Messages', /^[1-9][\d.]*\/s$/)
    await cell('Waiting', /^\d+$/)
    await see(page, '#members a[target=_blank][href^="http://127."]', 'dashboard')
    await cell('Age', /^[\d.]+ (ms|s|min)$/)
    assert(await page.isHidden('#drain'), 'an action that needs the token')
    await see(page, '#problems', /Nothing: /)
    await see(page, '#rates .legend', /forwarded [1-9]/)
    await see(page, '#latency .legend', /p99 \d/)
    // What the rooms serve, with the times of their answers.
    await see(page, '#forwarded', /^Forwarded to other members\s*Answer p50\s*Answer p90\s*Answer p99/)
    await see(page, '#forwarded tbody tr', /^Echo\.Echo(\s*[\d.]+\s*(µs|ms|s)){3}\s*$/)
    await page.screenshot({ path: `${process.argv[3]}/admin-light.png`, fullPage: true })

    const [metrics] = await Promise.all([page.waitForEvent('popup'), page.click('footer a')])
    await see(metrics, 'body', /nano_ready\{/)
    await metrics.close()
    await search(page)
    await giveToken(page)
    await kick(page, (name) => shoot(page, name))
    await changeFilter(page)

    // What has ended is seen for a while.
    request(players.at(-1), 'T.Sleep', '6000')
    await see(page, '#problems tr:not(.ended)', /T.Sleep has held/)
    await see(page, '#members', /handler blocks/)
    await page.screenshot({ path: `${process.argv[3]}/admin-blocked.png`, fullPage: true })
    await see(page, '#problems tr.ended', /T.Sleep held the scheduler node for [67].\d s.*ended, the last time at \d/)
    // Over before the page could see it: its node tells.
    request(players.at(-1), 'T.Sleep', '400')
    await see(page, '#problems tr:not(.ended)', /T.Sleep held the scheduler node for [67].\d s at most.*2 times since \d/)
    await flood(page, gate['listening on'])
    await ownUsers(url, 3)
    room1.child.kill('SIGSTOP')
    await see(page, '#asked', '3 of 4 nodes answered; no answer from room-1')
    await see(page, '#problems tr:not(.ended)', /no answer\s*room-1/)
    await searchInVain(page)
    room1.child.kill('SIGCONT')
    await see(page, '#asked', '4 of 4 nodes answered')
    await see(page, '#problems tr.ended', /no answer\s*room-1/)

    await outage(page, gate.child)
    room1.child.kill('SIGKILL')
    await see(page, '#members', /broken|none|suspect/)
    await page.screenshot({ path: `${process.argv[3]}/admin-broken.png`, fullPage: true })
    await see(page, '#asked', '3 of 3 nodes answered; 1 lost')
    await see(page, '#problems tr:not(.ended)', /member lost\s*room-1.*evicted \d/)
    const lost = page.locator('#map g', { has: page.locator('circle.lost') })
    assert.match(await lost.textContent(), /room-1.*lost at \d/)
    assert.equal(await page.locator('#map line.lost').count(), 1, 'as dashed as the node')
    await page.screenshot({ path: `${process.argv[3]}/admin-lost.png`, fullPage: true })

    const phone = await open({ viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true, colorScheme: 'dark' })
    await phone.goto(url)
    await see(phone, '#rates .legend', /received [1-9]/)
    const wide = await phone.evaluate(() => document.documentElement.scrollWidth)
    assert(wide <= 390, `the page is ${wide} pixels wide on a phone`)
    await phone.screenshot({ path: `${process.argv[3]}/admin-phone.png`, fullPage: true })
    await phone.close()
    await deny(page)

    page.expectsOutage = true
    await page.click('#drain')
    await see(page, '#dialog label', 'Seconds that players may stay')
    assert.equal(await page.inputValue('#field'), '600')
    await page.fill('#field', '')
    await page.click('#act')
    await see(page, '#dialog .error', /Type whole seconds/)
    await page.fill('#field', '90')
    await page.click('#act')
    await see(page, '#dialog p', /0 clients are connected to this node, and may stay for 90 s, until \d/)
    await see(page, '#dialog p', /No other member has Grp\.$/)
    await page.keyboard.press('Escape')
    // A player keeps the node that drains.
    players.push(await player(gate['listening on']))
    await see(page, '#session-count', /^1 on this node/)
    await page.click('#drain')
    await page.fill('#field', '90')
    await page.click('#act')
    await page.click('#act')
    await see(page, '#notice', /The node drains since \d/)
    await see(page, '#state', 'not ready: draining')
    await see(page, '#problems tr:not(.ended)', /not ready\s*gate <1>.*draining/)
    await see(page, '#session-count', /^1 on this node/)
    await page.click('#drain')
    await page.fill('#field', '0')
    await page.click('#act')
    await see(page, '#dialog p', /1 client is connected to this node. The node stops at once/)
    await shoot(page, 'admin-drain')
    await page.click('#act')
    await see(page, '#state', /not ready: draining|no answer/)
    if (gate.child.exitCode === null) await once(gate.child, 'exit')
    players.forEach((socket) => socket.destroy())
  } finally {
    children.forEach((child) => child.kill('SIGKILL'))
  }
})
