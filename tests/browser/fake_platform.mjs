// A clock and a network for nano.js in one thread: what takes hours takes milliseconds, and a hidden page's timers are as slow as a browser's.

const MINUTE = 60_000
/** How long a page is hidden before its timers fire once a minute only. */
const THROTTLED_AFTER = 5 * MINUTE
/** What `setTimeout` does with a longer delay: it fires at once. */
const MAX_DELAY = 0x7fffffff

/** Replaces `setTimeout`, `clearTimeout` and `Date.now`. `restore` undoes it. */
export class FakeClock {
  /** Milliseconds since the page was loaded. */
  now = 0
  /** When the page was hidden, or null. */
  hiddenAt = null
  /** Delays given to `setTimeout`. */
  delays = []
  #jobs = new Map()
  #nextId = 1
  #real = { setTimeout: globalThis.setTimeout, clearTimeout: globalThis.clearTimeout, now: Date.now }

  constructor() {
    globalThis.setTimeout = (run, ms = 0) => {
      this.delays.push(ms)
      return this.#add(run, this.now + (ms > MAX_DELAY ? 0 : ms), true)
    }
    globalThis.clearTimeout = (id) => this.#jobs.delete(id)
    Date.now = () => this.now
  }

  restore() {
    Object.assign(globalThis, { setTimeout: this.#real.setTimeout, clearTimeout: this.#real.clearTimeout })
    Date.now = this.#real.now
  }

  /** Timers that wait. */
  get timers() {
    return [...this.#jobs.values()].filter(({ timer }) => timer).length
  }

  /** Something of the outside world in `ms` milliseconds: no browser slows it down. */
  outside(ms, run) {
    this.#add(run, this.now + ms, false)
  }

  /** Runs what is due in the next `ms` milliseconds, in order. */
  advance(ms) {
    const end = this.now + ms
    for (;;) {
      let next = null
      for (const [id, job] of this.#jobs) {
        const due = this.#due(job)
        if (due <= end && (!next || due < next.due)) next = { id, due, run: job.run }
      }
      if (!next) break
      this.#jobs.delete(next.id)
      this.now = Math.max(this.now, next.due)
      next.run()
    }
    this.now = end
  }

  #add(run, due, timer) {
    this.#jobs.set(this.#nextId, { run, due, timer })
    return this.#nextId++
  }

  #due({ due, timer }) {
    const throttled = timer && this.hiddenAt !== null && due >= this.hiddenAt + THROTTLED_AFTER
    return throttled ? Math.ceil(due / MINUTE) * MINUTE : due
  }
}

/** A WebSocket whose other end is the test: `sent` has what the client sent, `deliver` hands it a frame. */
export class FakeSocket {
  static last = null
  readyState = 0
  sent = []
  onsend = () => {}

  constructor() {
    FakeSocket.last = this
  }

  accept() {
    this.readyState = 1
    this.onopen()
  }

  send(bytes) {
    this.sent.push(bytes)
    this.onsend(bytes)
  }

  deliver(data) {
    if (this.readyState === 1) this.onmessage({ data })
  }

  close() {
    if (this.readyState === 3) return
    this.readyState = 3
    queueMicrotask(() => this.onclose({ code: 1000, reason: '' }))
  }

  /** The other end went away. */
  break() {
    this.readyState = 3
    this.onclose({ code: 1006, reason: '' })
  }
}

/** One packet, for `deliver`. */
export function packet(type, body = '') {
  const bytes = new TextEncoder().encode(body)
  const packet = new Uint8Array(4 + bytes.length)
  packet.set([type, bytes.length >> 16, bytes.length >> 8, bytes.length])
  packet.set(bytes, 4)
  return packet.buffer
}
