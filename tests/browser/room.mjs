// The room of a chat, as both chat pages show it.
import assert from 'node:assert/strict'

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

export async function members(page, names) {
  const listed = () => [...document.querySelectorAll('#members .name')].map((name) => name.textContent)
  const same = (expected) => JSON.stringify([...document.querySelectorAll('#members .name')].map((name) => name.textContent)) === expected
  await page.waitForFunction(same, JSON.stringify(names)).catch(async () => assert.deepEqual(await page.evaluate(listed), names))
}
