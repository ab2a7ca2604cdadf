// A TCP proxy that loses connections, for the tests of nano.js with a real server. The soak has one that does so at random.
import { createServer, connect } from 'node:net'

/** Forwards connections to a port. */
export class LossyProxy {
  #to
  #lost = false
  #server
  #open = new Set()

  /** Listens; returns the port. */
  async start(to) {
    this.#to = to
    this.#server = createServer((client) => this.#forward(client))
    await new Promise((resolve) => this.#server.listen(0, '127.0.0.1', resolve))
    return this.#server.address().port
  }

  /** Loses all connections now, and new ones at once, until `heal`. */
  cut() {
    this.#lost = true
    for (const socket of this.#open) socket.resetAndDestroy()
  }

  /** Forwards connections that are opened from now on, to another port if one is given. */
  heal(to = this.#to) {
    this.#to = to
    this.#lost = false
  }

  async stop() {
    for (const socket of this.#open) socket.destroy()
    await new Promise((resolve) => this.#server.close(resolve))
  }

  #forward(client) {
    if (this.#lost) return client.resetAndDestroy()
    const server = connect(this.#to, '127.0.0.1')
    for (const [from, to] of [
      [client, server],
      [server, client],
    ]) {
      this.#open.add(from)
      from.setNoDelay(true)
      from.on('error', () => {})
      from.on('close', () => (this.#open.delete(from), to.destroy()))
      from.pipe(to)
    }
  }
}
