// The page of the cards example: two people play, one loses the network in the middle, one loads the page anew, one logs in twice.
// usage: node cards.mjs http://127.0.0.1:3254/web/ shots target/debug/examples/cards [its flags...]
import assert from 'node:assert/strict'

import { LossyProxy } from './lossy_proxy.mjs'
import { join, see } from './room.mjs'
import { run } from './support.mjs'

run(async ({ url, open, shoot }) => {
  const ann = await open()
  const ben = await open({ viewport: { width: 390, height: 780 }, isMobile: true, hasTouch: true, colorScheme: 'dark' })
  const network = new LossyProxy()
  const through = Object.assign(new URL(url), { port: await network.start(new URL(url).port) }).href
  await ann.goto(through)
  await shoot(ann, 'cards-lobby')
  await join(ann, 'Ann')
  await ann.click('#play')
  await see(ann, '#status', 'Waiting for a second player…')
  await ben.goto(url)
  await join(ben, 'Ben <i>')
  await ben.click('#play')
  await see(ann, '#other .name', 'Ben <i>')
  await see(ann, '#status', 'Your turn')
  await see(ben, '#status', 'Ann is thinking…')
  assert.equal(await ben.locator('#you .playing:enabled').count(), 0, 'no player moves out of turn')
  await shoot(ann, 'cards-deal')

  const first = await play(ann)
  await see(ben, '#theirs .value', first)
  await shoot(ben, 'cards-phone')

  // Ben plays while Ann has no network. She comes back to her hand, and sees what he has played.
  ann.expectsOutage = true
  const hand = await cards(ann)
  network.cut()
  await see(ann, '#banner.wait:visible', /econnecting/)
  await shoot(ann, 'cards-away')
  const second = await play(ben)
  network.heal()
  await see(ann, '#banner.good:visible', 'Connected again. Nothing was missed.')
  await see(ann, '#theirs .value', second)
  assert.deepEqual(await cards(ann), hand)
  ann.expectsOutage = false
  await shoot(ann, 'cards-trick')

  // A page that is loaded anew comes back to its cards.
  const kept = await cards(ben)
  await ben.reload()
  await see(ben, '#other .name', 'Ann')
  assert.deepEqual(await cards(ben), kept)

  // The same account in a third window ends the first, and goes on with its game.
  const again = await open()
  await again.goto(url)
  await join(again, 'Ann')
  await see(ann, '#refusal', 'You play as Ann in another window now')
  await shoot(ann, 'cards-replaced')
  await see(again, '#other .name', 'Ben <i>')
  assert.deepEqual(await cards(again), hand)

  const admin = await open()
  await admin.goto(`${url}?admin=secret`)
  await join(admin, 'Admin')
  await admin.fill('#text', 'A break of ten minutes at eight')
  await admin.click('#announce button')
  for (const page of [again, ben, admin]) await see(page, '#news:visible', 'A break of ten minutes at eight')
  const intruder = await open()
  await intruder.goto(`${url}?admin=guess`)
  await join(intruder, 'Eve')
  await intruder.fill('#text', 'nonsense')
  await intruder.click('#announce button')
  await see(intruder, '#news:visible', 'wrong password')

  while (await again.isHidden('#play')) {
    for (const page of [again, ben]) {
      if (await page.locator('#you .playing:enabled').count()) await page.locator('#you .playing:enabled').last().click()
    }
    await again.waitForTimeout(50)
  }
  await ben.waitForSelector('#play:visible')
  const [one, other] = [await again.textContent('#status'), await ben.textContent('#status')]
  assert.deepEqual([one, other].filter((text) => text === 'You win!').length, 1, `${one}, ${other}`)
  await shoot(again, 'cards-over')

  // The same two play again, at a table of the other node.
  const place = await ben.textContent('#place')
  await again.click('#play')
  await see(again, '#status', 'Waiting for a second player…')
  await ben.click('#play')
  await see(ben, '#status', 'Ann is thinking…')
  const next = await ben.textContent('#place')
  assert.deepEqual([place, next].map((text) => text.split(' ').at(-1)).sort(), ['blue', 'red'])
  await network.stop()
})

/** The hand, as numbers. */
const cards = (page) => page.locator('#you .hand .value').allTextContents()

/** Plays the highest card; returns it. */
async function play(page) {
  const card = page.locator('#you .playing:enabled').last()
  const value = await card.locator('.value').textContent()
  await card.click()
  await see(page, '#mine .value', value)
  return value
}
