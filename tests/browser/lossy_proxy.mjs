// A TCP proxy that loses connections, for the tests of nano.js with a real server.
import { createServer, connect } from 'node:net'

const LOSSES = ['reset', 'end', 'silence']

/** Numbers from 0 to 1 that are the same for the same seed. */
export function seeded(seed) {
  let state = seed >>> 0
  return () => {
    // mulberry32
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/**
 * Forwards connections to a port. `plan()` says of each new one after how many bytes it is lost and how: by `reset`, by `end` of the stream,
 * or in `silence`, in which nothing arrives any more and no side learns of it; null for a connection that stays.
 */
export class LossyProxy {
  /** Connections lost, by how. */
  losses = Object.fromEntries(LOSSES.map((loss) => [loss, 0]))
  #plan
  #server
  #open = new Set()

  constructor(plan = () => null) {
    this.#plan = plan
  }

  /** Loses each connection after up to `most` bytes, one in five of them during the handshakes; never the first in those. */
  static random(random, most) {
    let first = true
    return new LossyProxy(() => {
      const loss = LOSSES[Math.floor(random() * LOSSES.length)]
      const early = !first && random() < 0.2
      const least = first ? 1500 : 0
      first = false
      return { bytes: early ? Math.floor(random() * 1000) : least + Math.floor(random() * most), loss }
    })
  }

  /** Listens; returns the port. */
  async start(to) {
    this.#server = createServer((client) => this.#forward(client, connect(to, '127.0.0.1')))
    await new Promise((resolve) => this.#server.listen(0, '127.0.0.1', resolve))
    return this.#server.address().port
  }

  /** Loses no connection that is opened from now on. */
  heal() {
    this.#plan = () => null
  }

  /** Loses all connections now, and new ones at once, until `heal`. */
  cut() {
    this.#plan = () => ({ bytes: 0, loss: 'reset' })
    for (const socket of this.#open) socket.resetAndDestroy()
  }

  async stop() {
    for (const socket of this.#open) socket.destroy()
    await new Promise((resolve) => this.#server.close(resolve))
  }

  #forward(client, server) {
    const plan = this.#plan()
    let left = plan?.bytes ?? Infinity
    const pair = [client, server]
    const lose = () => {
      this.losses[plan.loss]++
      for (const socket of pair) {
        socket.removeAllListeners('data')
        if (plan.loss === 'reset') socket.resetAndDestroy()
        else if (plan.loss === 'end') socket.end().resume()
        // What waits in a socket that is paused stays there: the other side can only guess.
        else socket.pause()
      }
    }
    for (const [from, to] of [pair, [server, client]]) {
      this.#open.add(from)
      from.setNoDelay(true)
      from.on('error', () => {})
      from.on('close', () => (this.#open.delete(from), left > 0 && to.destroy()))
      from.on('end', () => left > 0 && to.end())
      from.on('data', (bytes) => {
        to.write(bytes.subarray(0, Math.min(bytes.length, left)))
        if ((left -= bytes.length) <= 0) lose()
      })
    }
    if (left <= 0) lose()
  }
}
