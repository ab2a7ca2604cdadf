// The tadpole page, with two swimmers in two browsers.
// usage: node tadpole.mjs http://127.0.0.1:3251/web/ shots [server command...]
import assert from 'node:assert/strict'

import { run } from './support.mjs'

run(async ({ url, open, shoot, server }) => {
  const ann = await open()
  const ben = await open({ viewport: { width: 390, height: 780 }, isMobile: true, hasTouch: true })
  await ann.goto(url)
  await shoot(ann, 'tadpole-login')
  await dive(ann, 'Ann')
  await ben.goto(url)
  await dive(ben, 'Ben')
  for (const page of [ann, ben]) await swimming(page, ['Ann', 'Ben'])
  for (const page of [ann, ben]) await painted(page)

  const start = await place(ann, 'Ann')
  await ann.keyboard.down('ArrowUp')
  await ann.waitForFunction(({ x, y }) => {
    const own = window.tadpoles.swimmers.find(({ name }) => name === 'Ann')
    return Math.hypot(own.x - x, own.y - y) > 60
  }, start)
  await ann.keyboard.up('ArrowUp')
  await sameplace(ann, ben, 'Ann')

  const before = await place(ben, 'Ben')
  await ben.mouse.move(300, 200)
  await ben.mouse.down()
  await ben.waitForFunction(({ x, y }) => {
    const own = window.tadpoles.swimmers.find(({ name }) => name === 'Ben')
    return Math.hypot(own.x - x, own.y - y) > 40
  }, before)
  await ben.mouse.up()
  await sameplace(ben, ann, 'Ben')

  await say(ann, 'What a lovely pond, Ben! <b>So</b> green.')
  await say(ben, 'Hi Ann')
  for (const page of [ann, ben]) {
    await page.waitForFunction(() => window.tadpoles.swimmers.every(({ bubbles }) => bubbles.length === 1))
    const heard = await page.locator('#heard li').allTextContents()
    assert.deepEqual(heard.sort(), ['Ann: What a lovely pond, Ben! <b>So</b> green.', 'Ben: Hi Ann'])
    assert.equal(await page.locator('#heard b').count(), 0, 'what people write is text, never HTML')
  }
  // Bubbles fade in; the picture is taken when they are there.
  await ann.evaluate(() => new Promise((resolve) => setTimeout(resolve, 300)))
  await shoot(ann, 'tadpole-desktop')
  await shoot(ben, 'tadpole-phone')

  if (server) {
    for (const page of [ann, ben]) page.expectsOutage = true
    await server.stop()
    for (const page of [ann, ben]) await page.waitForSelector('#banner:visible')
    await server.start()
    for (const page of [ann, ben]) {
      await page.waitForSelector('#banner', { state: 'hidden' })
      page.expectsOutage = false
    }
    for (const page of [ann, ben]) await swimming(page, ['Ann', 'Ben'])
  }

  await ben.close()
  await swimming(ann, ['Ann'])
})

async function dive(page, name) {
  await page.fill('#name', name)
  await page.click('#login button')
  await page.waitForFunction(() => window.tadpoles.self !== null)
}

async function swimming(page, names) {
  const there = (expected) => {
    const placed = window.tadpoles.swimmers.filter((swimmer) => swimmer.placed)
    return JSON.stringify(placed.map(({ name }) => name).sort()) === expected
  }
  await page.waitForFunction(there, JSON.stringify(names)).catch(async (error) => {
    throw new Error(`expected ${names}, the page sees ${JSON.stringify(await page.evaluate(() => window.tadpoles.swimmers))}`, { cause: error })
  })
}

function place(page, name) {
  return page.evaluate((name) => window.tadpoles.swimmers.find((swimmer) => swimmer.name === name), name)
}

/** Waits until a swimmer has come to rest where it is, in its own page and in the other. */
async function sameplace(own, other, name) {
  const deadline = Date.now() + 15_000
  for (;;) {
    const [here, there] = [await place(own, name), await place(other, name)]
    if (Math.hypot(here.x - there.x, here.y - there.y) < 3) return
    assert(Date.now() < deadline, `${name} is at ${here.x},${here.y} but seen at ${there.x},${there.y}`)
    await own.waitForTimeout(50)
  }
}

async function say(page, message) {
  await page.fill('#message', message)
  await page.press('#message', 'Enter')
}

/** The canvas shows water, and bodies that are not water: many colours, some of them bright. */
async function painted(page) {
  await page.waitForFunction(() => {
    const canvas = document.getElementById('pond')
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height)
    const colours = new Set()
    let bright = 0
    for (let at = 0; at < data.length; at += 4) {
      colours.add((data[at] << 16) | (data[at + 1] << 8) | data[at + 2])
      if (data[at] > 200 && data[at + 1] > 200 && data[at + 2] > 200) bright++
    }
    return colours.size > 200 && bright > 20
  })
}
