// The room of a chat, as both chat pages show it.
import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'

import { look } from './support.mjs'

/** The screenshot matches the page's claims: glyphs are drawn, on the expected colours. */
export async function painted(page, png) {
  for (const selector of ['.message.mine .text', '.message:not(.mine) .text', '#send']) {
    const element = page.locator(selector).last()
    const { colours, commonest } = await look(page, png, element)
    assert.equal(commonest, await element.evaluate((element) => getComputedStyle(element).backgroundColor), selector)
    assert(colours > 8, `${selector} is empty: ${colours} colours`)
  }
}

export async function join(page, name) {
  await page.fill('#name', name)
  await page.click('#join button')
  await page.waitForSelector('#room:visible')
}

export async function say(page, text) {
  await page.fill('#content', text)
  await page.press('#content', 'Enter')
}

/** What the page has heard, in order, without own words that are still on their way. */
export function lines(page) {
  return page.locator('.message:not(.pending) .text').allTextContents()
}

/** Waits until an element has this text, whole, or matches it. */
export async function see(page, selector, text) {
  const pattern = text instanceof RegExp ? text : new RegExp(`^${text.replace(/[^\w\s]/gu, '\\$&').replace(/\s+/g, '\\s+')}$`)
  await page.locator(selector, { hasText: pattern }).first().waitFor()
}

/** The network of Ann is pulled for ten seconds, that of Ben for half of them, and both talk on. Nothing is lost or repeated. */
export async function pull({ networks, ann, ben, shoot }) {
  const notices = await ann.locator('.notice').count()
  const before = await lines(ann)
  for (const page of [ann, ben]) page.expectsOutage = true
  networks.ann.cut()
  await see(ann, '#banner.wait:visible', /econnecting/)
  for (let second = 1; second <= 10; second++) {
    await say(ann, `Ann, second ${second}`)
    await say(ben, `Ben, second ${second}`)
    if (second === 5) {
      networks.ben.cut()
      await see(ben, '#banner.wait:visible', /econnecting/)
    }
    await sleep(1000)
  }
  assert.deepEqual((await lines(ann)).slice(before.length), [], 'nothing can arrive')
  assert.equal(await ann.locator('.message.pending').count(), 10)
  await shoot(ann, 'away')
  for (const network of Object.values(networks)) network.heal()
  await see(ann, '#banner.good:visible', 'Connected again. Nothing was missed.')
  await shoot(ann, 'resumed')
  for (const page of [ann, ben]) {
    await page.waitForFunction((count) => document.querySelectorAll('.message:not(.pending)').length >= count, before.length + 20)
    await page.waitForSelector('#banner', { state: 'hidden' })
    page.expectsOutage = false
  }
  const heard = (await lines(ann)).slice(before.length)
  assert.deepEqual((await lines(ben)).slice(-20), heard, 'both have the same lines in the same order')
  for (const name of ['Ann', 'Ben']) {
    const said = Array.from({ length: 10 }, (_, at) => `${name}, second ${at + 1}`)
    assert.deepEqual(heard.filter((line) => line.startsWith(name)), said, `what ${name} said, in order and once`)
  }
  assert.equal(await ann.locator('.message.pending, .message.failed').count(), 0)
  assert.equal(await ann.locator('.notice').count(), notices, 'no member has left or joined')
}

/** Waits until the page lists these members, in this order, and counts them. */
export async function members(page, names) {
  const shown = () => ({
    names: [...document.querySelectorAll('#members .name')].map((name) => name.textContent),
    count: document.querySelector('#count').textContent,
  })
  const expected = { names, count: String(names.length) }
  // Polled from here, so that a failure can show both sides. Names and count are one state: right after a
  // rejoin the page still lists who was there before.
  const deadline = Date.now() + 10_000
  let last
  do {
    last = await page.evaluate(shown)
    if (isDeepStrictEqual(last, expected)) return
    await new Promise((done) => setTimeout(done, 20))
  } while (Date.now() < deadline)
  assert.deepEqual(last, expected)
}

/** The name of Ann in a third window ends the first, with a notice; the third one talks, and leaves. Ann joins again. */
export async function replaced({ ann, ben, url, open, shoot, names }) {
  const again = await open()
  await again.goto(url)
  await join(again, 'Ann')
  await see(ann, '#refusal', 'You are in the room as Ann in another window now')
  await shoot(ann, 'replaced')
  await members(again, names)
  await members(ben, names.toReversed())
  await say(again, 'I have moved')
  await see(ben, '.message:not(.mine) .text', 'I have moved')
  await again.click('#leave')
  await see(ben, '.notice', 'Ann left')
  await join(ann, 'Ann')
  await members(ann, names)
}
