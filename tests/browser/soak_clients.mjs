// The clients of nano.js in the soak of sessions that return, tests/resume/soak.rs, which starts this and talks to it in lines of JSON. What
// they do is what the Rust clients do, tests/resume/soak/player.rs; what they have seen is judged there.
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'

import { WebSocket } from 'ws'

import { Client } from '../../examples/web/nano.js'

const OPTIONS = { WebSocket, resume: true, reconnect: { min: 20, max: 300 }, connectTimeout: 2000, timeout: 60_000 }
/** How many requests of a client may wait. */
const IN_FLIGHT = 8

const lines = createInterface(process.stdin)[Symbol.asyncIterator]()
const hear = async () => JSON.parse((await lines.next()).value)
const say = (what) => console.log(JSON.stringify(what))
const below = (end) => Math.floor(Math.random() * end)

class Player {
  #client
  #waiting = new Set()

  constructor({ name, url }) {
    const record = { name, sent: [0, 0], broadcasts: 0, answered: [[], []], pushed: [[], []], heard: {}, looked: 0, sessions: [], resumed: 0, ended: [] }
    this.record = record
    const client = (this.#client = new Client(url, OPTIONS))
    for (const route of ['onEcho', 'onA', 'Dict.known']) client.on(route, ([to, number]) => record.pushed[to].push(number))
    client.on('onBroadcast', ([from, number]) => (record.heard[from] ??= []).push(number))
    client.addEventListener('resumed', () => record.resumed++)
    for (const type of ['lost', 'reconnected', 'kick', 'close']) {
      client.addEventListener(type, ({ detail }) => record.ended.push(`${type}: ${JSON.stringify(detail)}`))
    }
  }

  async connect() {
    await this.#client.connect()
    await this.#client.request('T1.Bind', this.record.name + 1, { raw: true })
    await this.#client.request('Grp.Join', {})
  }

  async play(end) {
    while (Date.now() < end) {
      const to = below(2)
      const what = below(100)
      if (what === 0) this.#broadcast()
      else if (what < 5) await this.look(to)
      else await this.#send(to)
      // Several messages at once, so that a loss finds some on their way.
      if (below(4) === 0) await sleep(below(200))
    }
    // The last message to each is a request: its answer is behind all pushes.
    for (const to of [0, 1]) {
      await this.#send(to)
      if (this.record.sent[to] % 2 === 1) await this.#send(to)
    }
    await Promise.all(this.#waiting)
  }

  async #send(to) {
    const number = this.record.sent[to]++
    const body = [to, number, 'x'.repeat(below(20) ? below(300) : 4000)]
    if (number % 2 === 0) return this.#notify(`Echo${to}.Push`, body)
    const answer = this.#client.request(`T${to}.PushThenResp`, body).then((answered) => {
      if (JSON.stringify(answered) !== JSON.stringify(body)) this.record.ended.push(`another answer to ${number}`)
      this.record.answered[to].push(number)
      this.#waiting.delete(answer)
    })
    this.#waiting.add(answer)
    while (this.#waiting.size >= IN_FLIGHT) await Promise.race(this.#waiting)
  }

  #broadcast() {
    this.#notify('Grp.Send', [this.record.name, this.record.broadcasts++])
  }

  #notify(route, body) {
    if (!this.#client.notify(route, body)) this.record.ended.push(`${route} was not sent`)
  }

  /** Asks for the ids of the session. */
  async look(to) {
    const { id, uid } = await this.#client.request(`T${to}.Ids`, {})
    this.record.looked++
    if (!this.record.sessions.some((known) => known[0] === id && known[1] === uid)) this.record.sessions.push([id, uid])
  }

  close() {
    this.#client.close()
  }
}

/** A client whose connection is lost behind its first message; resolves to why its session is lost. */
async function lose({ url, floods }) {
  const client = new Client(url, OPTIONS)
  const lost = new Promise((resolve) => client.addEventListener('lost', ({ detail }) => resolve(detail.reason)))
  await client.connect()
  if (floods) client.notify('T0.Flood', 20_000)
  else client.notify('Echo0.Sink', {})
  const reason = await lost
  // It goes on in a new session.
  if (floods) await client.request('T0.Ids', {})
  client.close()
  return reason
}

const { seconds, players, losers } = await hear()
const all = players.map((player) => new Player(player))
await Promise.all(all.map((player) => player.connect()))
say('connected')
await hear()
const losses = Promise.all(losers.map(lose))
const end = Date.now() + seconds * 1000
const noted = (player, doing) => doing.catch((error) => player.record.ended.push(String(error)))
await Promise.all(all.map((player) => noted(player, player.play(end))))
const lost = await losses
say('played')
await hear()
// Behind what the backend has sent before it.
await Promise.all(all.map((player) => noted(player, player.look(1))))
say({ records: all.map(({ record }) => record), lost })
for (const player of all) player.close()
process.stdin.destroy()
