// The page of the cluster example: two people talk, the room is killed and started again, and they talk on. One logs in a second time.
// usage: node cluster.mjs http://127.0.0.1:12345/web/ shots target/debug/examples/cluster [its flags...]
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'

import { LossyProxy } from './lossy_proxy.mjs'
import { join, members, painted, pull, replaced, say, see } from './room.mjs'
import { run } from './support.mjs'

run(async ({ url, open, shoot, server }) => {
  assert(server, 'a server command is needed: its nodes are killed')
  const ann = await open()
  const ben = await open({ viewport: { width: 390, height: 780 }, isMobile: true, hasTouch: true, colorScheme: 'dark' })
  // Each has a network of its own to the gate, which can be pulled.
  const networks = { ann: new LossyProxy(), ben: new LossyProxy() }
  const through = async (network) => {
    const page = new URL(url)
    const port = await network.start(page.searchParams.get('gate').split(':').at(-1))
    page.searchParams.set('gate', `127.0.0.1:${port}`)
    return page.href
  }
  await ann.goto(await through(networks.ann))
  await join(ann, 'Ann')
  await see(ann, '.notice', 'You are the first one here')
  await ben.goto(await through(networks.ben))
  await shoot(ben, 'cluster-lobby')
  await join(ben, 'Ben, <i>')
  await members(ann, ['Ann', 'Ben  <i>'])
  await members(ben, ['Ben  <i>', 'Ann'])
  await see(ann, '.notice', 'Ben  <i> joined')
  await say(ann, 'Hello Ben, which node are you on?')
  await see(ann, '.message.mine:not(.pending) .text', 'Hello Ben, which node are you on?')
  await see(ben, '.message:not(.mine) .text', 'Hello Ben, which node are you on?')
  await say(ben, 'On three of them, it seems.')
  await see(ann, '.message:not(.mine) .text', 'On three of them, it seems.')
  await see(ann, '#balance', '999')
  await pull({ networks, ann, ben, shoot: (page, name) => shoot(page, `cluster-${name}`) })
  await see(ann, '#balance', '989')

  const [, pid] = await server.prints(/^chat is up .* process (\d+)$/)
  process.kill(Number(pid), 'SIGKILL')
  const [, flags] = await server.prints(/^chat has ended, .* -- (.*)$/)
  await say(ann, 'Are you still there?')
  await see(ann, '#banner:visible', /The room is away/)
  assert.equal(await ann.isDisabled('#send'), true)
  await ann.fill('#content', 'typed while away')
  await ann.press('#content', 'Enter')
  assert.equal(await ann.inputValue('#content'), 'typed while away', 'what cannot be sent stays')
  await shoot(ann, 'cluster-away')
  assert.equal(await ben.locator('.text', { hasText: 'Are you still there?' }).count(), 0)

  // It ends with us: then its standard input does.
  const chat = spawn(server.program, [...flags.split(' '), '--with-parent'], { stdio: ['pipe', 'ignore', 'ignore'] })
  await ann.waitForSelector('#banner', { state: 'hidden' })
  await see(ben, '.message:not(.mine) .text', 'Are you still there?')
  await say(ben, 'Where else?')
  await see(ann, '.message:not(.mine) .text', 'Where else?')
  await ann.press('#content', 'Enter')
  await see(ben, '.message:not(.mine) .text', 'typed while away')
  await members(ann, ['Ann', 'Ben  <i>'])
  await see(ann, '#balance', '987')
  await painted(ann, await shoot(ann, 'cluster-back'))
  await shoot(ben, 'cluster-phone')

  await replaced({ ann, ben, url, open, shoot: (page, name) => shoot(page, `cluster-${name}`), names: ['Ann', 'Ben  <i>'] })

  // Who closes a page has gone, and does not only lose the connection.
  await ben.goto('about:blank')
  await see(ann, '.notice', 'Ben  <i> left')
  await members(ann, ['Ann'])
  await ann.click('#leave')
  await ann.waitForSelector('#join:visible')

  await join(ann, 'Ann')
  ann.expectsOutage = true
  await server.stop()
  await see(ann, '#banner:visible', /The gate is gone/)
  for (const network of Object.values(networks)) await network.stop()
  chat.stdin.end()
  await new Promise((resolve) => (chat.exitCode === null ? chat.once('exit', resolve) : resolve()))
})
