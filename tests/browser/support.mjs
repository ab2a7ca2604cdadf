// What the page tests share: a browser, pages that fail on any console error, and a server to stop and start.
import { spawn } from 'node:child_process'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'

import { chromium } from 'playwright-core'

const DEADLINE = 120_000
const ARGS = '--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync'

/**
 * Runs `script({ url, open, shoot, server })` from the command line `<base url> <screenshot dir> [server command...]` and sets the exit code.
 * With a server command, the server is started first and stopped at the end; `server` is null without one.
 */
export async function run(script) {
  const [url, shots, ...command] = process.argv.slice(2)
  if (!url || !shots) {
    console.error(`usage: node ${process.argv[1].split('/').at(-1)} <base url> <screenshot dir> [server command...]`)
    process.exit(2)
  }
  await mkdir(shots, { recursive: true })
  const server = command.length ? new Server(url, command) : null
  const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium'
  let browser
  const late = setTimeout(() => fail(new Error(`not done after ${DEADLINE / 1000} s`)), DEADLINE)
  const fail = (error) => {
    console.error(error)
    server?.kill()
    process.exit(1)
  }
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.once(signal, () => fail(new Error(signal)))
  try {
    await server?.start()
    browser = await chromium.launch({ executablePath, args: ARGS.split(' ') })
    const problems = []
    const shoot = (page, name) => page.screenshot({ path: join(shots, `${name}.png`), animations: 'disabled' })
    const context = { url, server, open: (options) => open(browser, problems, options), shoot }
    await script(context)
    if (problems.length) throw new Error(`the pages complained:\n${problems.join('\n')}`)
    console.log('ok')
  } catch (error) {
    return fail(error)
  } finally {
    clearTimeout(late)
    await browser?.close()
  }
  await server?.stop()
}

/** A page in a profile of its own, so that two pages are two people. Its errors go to `problems`. */
async function open(browser, problems, options) {
  const context = await browser.newContext({ viewport: { width: 1100, height: 720 }, ...options })
  const page = await context.newPage()
  page.setDefaultTimeout(10_000)
  page.on('console', (message) => {
    // While a server is down, Chromium logs the failed connections whatever the page does.
    const down = page.expectsOutage && /WebSocket connection to .* failed|ERR_CONNECTION_REFUSED/.test(message.text())
    const expected = page.expectsErrors?.test(message.text())
    if (message.type() === 'error' && !down && !expected) problems.push(`${message.text()} (${message.location().url})`)
  })
  page.on('pageerror', (error) => problems.push(String(error)))
  return page
}

/**
 * Looks at a picture of a page, as a PNG: how many colours an element has in it, and which of them is the commonest, as CSS writes it.
 * The page must not be scaled.
 */
export async function look(page, png, locator) {
  const box = await locator.boundingBox()
  return page.evaluate(async ([png, { x, y, width, height }]) => {
    const picture = new Image()
    picture.src = `data:image/png;base64,${png}`
    await picture.decode()
    const ink = new OffscreenCanvas(picture.width, picture.height).getContext('2d')
    ink.drawImage(picture, 0, 0)
    const { data } = ink.getImageData(Math.ceil(x), Math.ceil(y), Math.floor(width) - 1, Math.floor(height) - 1)
    const counts = new Map()
    for (let at = 0; at < data.length; at += 4) {
      const colour = `rgb(${data[at]}, ${data[at + 1]}, ${data[at + 2]})`
      counts.set(colour, (counts.get(colour) ?? 0) + 1)
    }
    const [[commonest]] = [...counts].sort(([, a], [, b]) => b - a)
    return { colours: counts.size, commonest }
  }, [png.toString('base64'), box])
}

class Server {
  #url
  #command
  #process = null
  #exited
  #lines = []
  #heard = () => {}

  constructor(url, command) {
    this.#url = url
    this.#command = command
  }

  get program() {
    return this.#command[0]
  }

  /** Waits for a line on standard output that matches, since its last start. Returns the match. */
  async prints(pattern) {
    for (let at = 0; ; at++) {
      while (at >= this.#lines.length) await new Promise((resolve) => (this.#heard = resolve))
      const match = pattern.exec(this.#lines[at])
      if (match) return match
    }
  }

  /** Returns when the server answers. */
  async start() {
    const [program, ...args] = this.#command
    // A group of its own, so that stopping reaches what the command started (`cargo run` starts the example).
    this.#process = spawn(program, args, { detached: true, stdio: ['ignore', 'pipe', 'inherit'] })
    this.#lines = []
    createInterface(this.#process.stdout).on('line', (line) => {
      this.#lines.push(line)
      this.#heard()
    })
    this.#exited = new Promise((resolve) => this.#process.once('exit', resolve))
    for (;;) {
      const answer = await fetch(this.#url).catch(() => null)
      if (answer?.ok) return
      if (this.#process.exitCode !== null) throw new Error(`${this.#command.join(' ')}: exited with ${this.#process.exitCode}`)
      await sleep(50)
    }
  }

  async stop() {
    this.kill()
    await this.#exited
    while (await fetch(this.#url).then(() => true, () => false)) await sleep(20)
  }

  kill() {
    if (this.#process?.exitCode === null && this.#process.signalCode === null) process.kill(-this.#process.pid, 'SIGTERM')
  }
}
