// The chat page, driven by two browsers and by one client that speaks nano's original chat demo.
// usage: node chat.mjs http://127.0.0.1:3250/web/ shots [server command...]
import assert from 'node:assert/strict'

import { WebSocket } from 'ws'

import { connect } from '../../examples/web/nano.js'
import { LossyProxy } from './lossy_proxy.mjs'
import { join, lines, members, painted, pull, replaced, say, see } from './room.mjs'
import { run } from './support.mjs'

const NASTY = '<img src=x onerror="window.hacked = 1"> <b>bold</b> & "quotes"'

run(async ({ url, open, shoot, server }) => {
  const ann = await open()
  const ben = await open({ viewport: { width: 390, height: 780 }, isMobile: true, hasTouch: true, colorScheme: 'dark' })
  // Each has a network of its own, which can be pulled.
  const networks = { ann: new LossyProxy(), ben: new LossyProxy() }
  const through = async (network) => Object.assign(new URL(url), { port: await network.start(new URL(url).port) }).href
  await ann.goto(await through(networks.ann))
  await shoot(ann, 'chat-lobby')
  await join(ann, 'Ann')
  await see(ann, '.notice', 'You are the first one here')
  await ben.goto(await through(networks.ben))
  await join(ben, 'Ben <i>')
  await members(ann, ['Ann', 'Ben <i>'])
  await members(ben, ['Ben <i>', 'Ann'])
  await see(ann, '.notice', 'Ben <i> joined')

  await say(ann, 'Hello Ben, nice to see you here!')
  await see(ben, '.message:not(.mine) .text', 'Hello Ben, nice to see you here!')
  await see(ann, '.message.mine:not(.pending) .text', 'Hello Ben, nice to see you here!')
  await say(ben, 'Hi Ann 👋')
  await say(ben, NASTY)
  await see(ann, '.message:not(.mine) .text', 'Hi Ann 👋')
  await see(ann, '.message:not(.mine) .text', NASTY)
  for (const page of [ann, ben]) {
    assert.equal(await page.locator('#log img, #log b, #members i').count(), 0, 'what people write is text, never HTML')
    assert.equal(await page.evaluate(() => window.hacked), undefined)
  }

  const socket = new URL('/nano', url)
  socket.protocol = 'ws:'
  const old = await connect(socket.href, { WebSocket })
  assert.deepEqual(await old.request('room.join', {}), { code: 0, result: 'success' })
  await see(ann, '.notice', /^Guest \d+ joined$/)
  old.notify('room.message', { name: 'guest1', content: 'hello from an old page' })
  await see(ann, '.message .text', 'hello from an old page')
  await see(ann, '.message .who', /^guest1/)
  await painted(ann, await shoot(ann, 'chat-desktop'))
  await shoot(ben, 'chat-phone')
  old.close()
  await see(ann, '.notice', /^Guest \d+ left$/)

  await pull({ networks, ann, ben, shoot: (page, name) => shoot(page, `chat-${name}`) })
  await members(ann, ['Ann', 'Ben <i>'])
  if (server) {
    await restart({ server, ann, ben, shoot })
    await forgotten({ server, networks, ann, ben, shoot })
  }

  await replaced({ ann, ben, url, open, shoot: (page, name) => shoot(page, `chat-${name}`), names: ['Ann', 'Ben <i>'] })

  // Who closes a page has gone, and does not only lose the connection.
  await ben.goto('about:blank')
  await see(ann, '.notice', 'Ben <i> left')
  await members(ann, ['Ann'])
  await ann.click('#leave')
  await ann.waitForSelector('#join:visible')
  await ann.click('#join button')
  await members(ann, ['Ann'])
  for (const network of Object.values(networks)) await network.stop()
})

/** What Ann has said to a server that has forgotten her is marked, and she can say it again. */
async function forgotten({ server, networks, ann, ben, shoot }) {
  for (const page of [ann, ben]) page.expectsOutage = true
  networks.ann.cut()
  await see(ann, '#banner.wait:visible', /econnecting/)
  await say(ann, 'into the void')
  await see(ann, '.message.pending .text', 'into the void')
  await server.stop()
  await server.start()
  networks.ann.heal()
  await see(ann, '.message.failed .text', 'into the void')
  for (const page of [ann, ben]) {
    await page.waitForSelector('#banner', { state: 'hidden' })
    page.expectsOutage = false
  }
  await members(ben, ['Ben <i>', 'Ann'])
  await shoot(ann, 'chat-failed')
  await ann.click('.message.failed button')
  await see(ben, '.message:not(.mine) .text', 'into the void')
  await see(ann, '.message.mine:not(.pending) .text', 'into the void')
  assert.deepEqual([await ann.locator('.message.failed').count(), (await lines(ben)).filter((line) => line === 'into the void').length], [0, 1])
}

async function restart({ server, ann, ben, shoot }) {
  for (const page of [ann, ben]) page.expectsOutage = true
  await server.stop()
  for (const page of [ann, ben]) await page.waitForSelector('#banner:visible')
  assert.match(await ann.textContent('#banner'), /reconnecting/i)
  assert.equal(await ann.isDisabled('#send'), true)
  await ann.fill('#content', 'typed while away')
  await ann.press('#content', 'Enter')
  assert.equal(await ann.inputValue('#content'), 'typed while away', 'what cannot be sent stays')
  await shoot(ann, 'chat-reconnecting')
  await server.start()
  for (const page of [ann, ben]) {
    await page.waitForSelector('#banner', { state: 'hidden' })
    await see(page, '.notice', 'You are back in the room')
    page.expectsOutage = false
  }
  await members(ann, ['Ann', 'Ben <i>'])
  await members(ben, ['Ben <i>', 'Ann'])
  await ann.press('#content', 'Enter')
  await see(ben, '.message:not(.mine) .text', 'typed while away')
  await say(ben, 'and we chat on')
  await see(ann, '.message:not(.mine) .text', 'and we chat on')
  await shoot(ann, 'chat-back')
}
