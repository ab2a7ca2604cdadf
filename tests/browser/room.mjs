// The room of a chat, as both chat pages show it.
import assert from 'node:assert/strict'
import { isDeepStrictEqual } from 'node:util'

import { look } from './support.mjs'

/** The screenshot matches the page's claims: glyphs are drawn, on the expected colours. */
export async function painted(page, png) {
  for (const selector of ['.message.mine .text', '.message:not(.mine) .text', '#send']) {
    const element = page.locator(selector).first()
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

/** Waits until an element has this text, whole, or matches it. */
export async function see(page, selector, text) {
  const pattern = text instanceof RegExp ? text : new RegExp(`^${text.replace(/[^\w\s]/gu, '\\$&').replace(/\s+/g, '\\s+')}$`)
  await page.locator(selector, { hasText: pattern }).first().waitFor()
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
