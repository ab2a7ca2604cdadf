/**
 * A client for nano servers: one ES module, no build step, for browsers and for Node 20 or newer.
 *
 *     import { connect } from './nano.js'
 *
 *     const client = await connect('ws://127.0.0.1:3250/nano', { reconnect: true })
 *     client.on('onMessage', (message) => console.log(message.content))
 *     await client.request('room.join', { name: 'Ann' })
 *     client.notify('room.message', { name: 'Ann', content: 'hello' })
 *
 * Bodies are JSON; an `ArrayBuffer` or a view of one is sent as it is, and `{ raw: true }` hands received bytes over undecoded. Numbers of
 * JavaScript are exact up to 2^53: larger ids travel as strings. A `BigInt` is not JSON, so a message with one is refused.
 *
 * A `Client` is an `EventTarget`. Its events, each with a `detail`:
 *
 * - `kick { reason, code }`: the server closed this session; a `close` follows, and no reconnect. `code` is there if the server gives one.
 *   A kick that asks to connect again, such as that of a server that is shutting down, counts as a broken connection when `reconnect` is on.
 * - `reconnecting { attempt, delay, reason }`: the connection is gone, the next attempt starts in `delay` milliseconds, or when the page
 *   becomes visible or the network comes back.
 * - `reconnected { user }`: connected again, as a new session: join again whatever was joined.
 * - `close { reason, kicked }`: the end; nothing happens after it.
 */

/** Packet types, the first byte on the wire. */
export const Packet = Object.freeze({ HANDSHAKE: 1, ACK: 2, HEARTBEAT: 3, DATA: 4, KICK: 5 })

/** Message types, inside a data packet. */
export const Kind = Object.freeze({ REQUEST: 0, NOTIFY: 1, RESPONSE: 2, PUSH: 3 })

const COMPRESSED = 0x01
const ERROR = 0x20
const MAX_BODY = 0xffffff
/** The longest delay of `setTimeout` in ms: a longer one fires at once. */
const MAX_DELAY = 0x7fffffff
/** The reason of the kick of a stopping server, which is all that servers without `reconnect` in their kicks say. */
const SHUTDOWN = 'server is shutting down'
/** How many times the first retry window is longer after a kick, unless it states one: many clients come back together. */
const KICKED_SPREAD = 10
/** The longest retry window that a kick may state, in ms. */
const MAX_WINDOW = 86_400_000

const missing = ['TextEncoder', 'TextDecoder', 'EventTarget', 'CustomEvent'].filter((name) => typeof globalThis[name] === 'undefined')
if (missing.length) throw new Error(`nano.js: this platform has no ${missing.join(', ')}; load a polyfill first`)

const encoder = new TextEncoder()
const decoder = new TextDecoder()

/**
 * Why a request failed. `code` and `msg` are the server's, or this client's: `NANO-400` (the message cannot be encoded, the reply not be
 * decoded), `NANO-408` (no answer in time), `NANO-410` (connection closed), `NANO-413` (longer than `maxPacket`).
 */
export class ReplyError extends Error {
  constructor(code, msg, metadata = {}) {
    super(`${code}: ${msg}`)
    this.name = 'ReplyError'
    this.code = code
    this.msg = msg
    this.metadata = metadata
  }
}

/** A message with a route code that is not in the dictionary. */
class UnknownRoute extends Error {}

/** One packet as bytes: type, length in three bytes, body. Throws a `RangeError` when the length does not fit. */
export function encodePacket(type, body = new Uint8Array()) {
  if (body.length > MAX_BODY) throw new RangeError(`a body of ${body.length} bytes does not fit into a packet`)
  const bytes = new Uint8Array(4 + body.length)
  bytes.set([type, body.length >> 16, body.length >> 8, body.length])
  bytes.set(body, 4)
  return bytes
}

/** Cuts a stream of bytes into packets, wherever the frames around them begin and end. */
export class PacketDecoder {
  #rest = new Uint8Array()

  /** Takes the next bytes and returns the packets they complete, as `{ type, body }`. Throws on a type that does not exist. */
  feed(chunk) {
    const bytes = this.#rest.length ? concat(this.#rest, chunk) : chunk
    const packets = []
    let at = 0
    while (bytes.length - at >= 4) {
      const type = bytes[at]
      if (type < Packet.HANDSHAKE || type > Packet.KICK) throw new Error(`packet type ${type} does not exist`)
      const end = at + 4 + ((bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3])
      if (end > bytes.length) break
      packets.push({ type, body: bytes.subarray(at + 4, end) })
      at = end
    }
    this.#rest = bytes.slice(at)
    return packets
  }
}

/** A message as the body of a data packet. `codes` maps routes to numbers; a route in it travels as its number. */
export function encodeMessage({ kind, id = 0, route = '', body = new Uint8Array(), error = false }, codes = new Map()) {
  const code = kind === Kind.RESPONSE ? undefined : codes.get(route)
  const head = [(kind << 1) | (code === undefined ? 0 : COMPRESSED) | (error ? ERROR : 0)]
  if (kind === Kind.REQUEST || kind === Kind.RESPONSE) {
    // Division, not shifts: ids may exceed 32 bits.
    let rest = id
    for (; rest > 127; rest = Math.floor(rest / 128)) head.push((rest % 128) | 128)
    head.push(rest)
  }
  if (kind === Kind.RESPONSE) return concat(Uint8Array.from(head), body)
  if (code !== undefined) return concat(Uint8Array.from([...head, code >> 8, code & 255]), body)
  const name = encoder.encode(route)
  if (name.length > 255) throw new RangeError(`a route of ${name.length} bytes is too long: ${route}`)
  return concat(Uint8Array.from([...head, name.length, ...name]), body)
}

/** The message in the body of a data packet. `routes` maps numbers to routes. Throws when it is cut short or its number is unknown. */
export function decodeMessage(bytes, routes = new Map()) {
  let at = 0
  const next = () => {
    if (at >= bytes.length) throw new Error('a message ends too early')
    return bytes[at++]
  }
  const flag = next()
  const kind = (flag >> 1) & 7
  if (kind > Kind.PUSH) throw new Error(`message type ${kind} does not exist`)
  const message = { kind, id: 0, route: '', error: (flag & ERROR) !== 0, body: null }
  if (kind === Kind.REQUEST || kind === Kind.RESPONSE) {
    for (let unit = 1, more = true; more; unit *= 128) {
      const byte = next()
      message.id += (byte & 127) * unit
      more = byte > 127
    }
  }
  if (kind !== Kind.RESPONSE && flag & COMPRESSED) {
    const code = next() * 256 + next()
    message.route = routes.get(code)
    if (message.route === undefined) throw new UnknownRoute(`route code ${code} is not in the dictionary`)
  } else if (kind !== Kind.RESPONSE) {
    const length = next()
    if (at + length > bytes.length) throw new Error('a route ends too early')
    message.route = decoder.decode(bytes.subarray(at, (at += length)))
  }
  message.body = bytes.subarray(at)
  return message
}

/** Connects and shakes hands. Rejects if that fails: only a connection that once stood is made again. See {@link Client} for options. */
export async function connect(url, options) {
  const client = new Client(url, options)
  await client.connect()
  return client
}

/** One connection to a nano server. Register `on` handlers before `connect()` to miss no push. */
export class Client extends EventTarget {
  #url
  #options
  #socket = null
  #state = 'idle'
  #nextId = 1
  #pending = new Map()
  #handlers = new Map()
  #codes = new Map()
  #routes = new Map()
  #opening = null
  #heartbeat = null
  #retry = null

  /**
   * - `user`: any JSON value, sent in the handshake.
   * - `reconnect`: false; true; or `{ min, max, attempts }`. Each delay is random, up to a window that doubles from `min` (500 ms) to `max`
   *   (15000 ms); `attempts` is how often (Infinity). After a kick that asks to connect again, no window is shorter than the one it states, or than ten
   *   times `min`.
   * - `timeout`: how long a request waits for its reply, in ms (10000; 0 or Infinity for ever).
   * - `connectTimeout`: how long connecting may take until the handshake is done, in ms (10000; 0 or Infinity for ever).
   * - `maxPacket`: the longest message in bytes, with its route (65536, the server's `Limits::max_packet`). A server closes the connection of
   *   a longer one, so it is refused here.
   * - `WebSocket`: the constructor to use, where the platform has none.
   */
  constructor(url, { user = {}, reconnect = false, timeout = 10000, connectTimeout = 10000, maxPacket = 65536, WebSocket = globalThis.WebSocket } = {}) {
    super()
    if (!WebSocket) throw new Error('nano.js: this platform has no WebSocket; give one as the option of that name')
    this.#url = url
    this.#options = { user, timeout, connectTimeout, maxPacket, WebSocket }
    this.#options.reconnect = reconnect ? { min: 500, max: 15000, attempts: Infinity, ...(reconnect === true ? {} : reconnect) } : null
    /** The `user` value of the handshake reply, or null. */
    this.user = null
  }

  /** `idle`, `connecting`, `open`, `reconnecting` or `closed`. */
  get state() {
    return this.#state
  }

  /** Opens the connection; resolves after the handshake. Once per client. */
  async connect() {
    if (this.#state !== 'idle') throw new Error(`connect() on a client that is ${this.#state}`)
    this.#state = 'connecting'
    globalThis.addEventListener?.('online', this.#wake)
    globalThis.document?.addEventListener?.('visibilitychange', this.#wake)
    try {
      await this.#open()
    } catch (error) {
      this.#finish(error.message)
      throw error
    }
  }

  /**
   * Sends a request; resolves to the body of its reply, rejects with a {@link ReplyError}. A request in flight when the connection breaks
   * is rejected, not repeated: only the caller knows whether twice is harmless. `options`: `timeout`, `raw`.
   */
  request(route, msg, { timeout = this.#options.timeout, raw = false } = {}) {
    return new Promise((resolve, reject) => {
      if (this.#state !== 'open') throw new ReplyError('NANO-410', `not connected: ${this.#state}`)
      const id = this.#nextId++
      this.#send(Packet.DATA, this.#encode({ kind: Kind.REQUEST, id, route }, msg))
      const expire = () => {
        this.#pending.delete(id)
        reject(new ReplyError('NANO-408', `no reply to ${route} within ${timeout} ms`))
      }
      this.#pending.set(id, { resolve, reject, raw, settle: after(timeout || Infinity, expire) })
    })
  }

  /** Sends a message that has no reply. False when it was not sent: there is no connection, or the console says what is wrong with it. */
  notify(route, msg) {
    if (this.#state !== 'open') return false
    try {
      return this.#send(Packet.DATA, this.#encode({ kind: Kind.NOTIFY, route }, msg))
    } catch (error) {
      console.error('nano: notify:', error.message)
      return false
    }
  }

  /** Calls `handler(body)` for each push with this route, also after a reconnect. Returns a function that ends it. `options`: `raw`. */
  on(route, handler, { raw = false } = {}) {
    const entry = { handler, raw }
    if (!this.#handlers.has(route)) this.#handlers.set(route, new Set())
    this.#handlers.get(route).add(entry)
    return () => void this.#handlers.get(route).delete(entry)
  }

  /** Closes for good. Requests in flight are rejected. */
  close(reason = 'closed by this client') {
    this.#finish(reason)
  }

  #encode(message, msg) {
    const { maxPacket } = this.#options
    let bytes
    try {
      if (typeof message.route !== 'string') throw new TypeError('a route is a string')
      bytes = encodeMessage({ ...message, body: toBytes(msg) }, this.#codes)
    } catch (error) {
      throw new ReplyError('NANO-400', `message to ${message.route} refused: ${error.message}`)
    }
    if (bytes.length <= maxPacket) return bytes
    throw new ReplyError('NANO-413', `message to ${message.route} refused: ${bytes.length} bytes, maxPacket is ${maxPacket}`)
  }

  #open() {
    return new Promise((resolve, reject) => {
      const { connectTimeout, maxPacket, user } = this.#options
      const hello = toBytes({ sys: { type: 'nano.js', version: '1.0.0', errorFlag: true }, user })
      if (hello.length > maxPacket) throw new ReplyError('NANO-413', `handshake refused: ${hello.length} bytes, maxPacket is ${maxPacket}`)
      const socket = new this.#options.WebSocket(this.#url)
      const packets = new PacketDecoder()
      const expire = () => this.#lost(socket, `no handshake within ${connectTimeout} ms`)
      this.#socket = socket
      this.#opening = { resolve, reject, settle: after(connectTimeout || Infinity, expire) }
      socket.binaryType = 'arraybuffer'
      socket.onopen = () => this.#send(Packet.HANDSHAKE, hello)
      const closed = ({ code, reason }) => this.#lost(socket, reason || `connection closed (${code})`)
      const foreign = (error) => this.#lost(socket, `cannot read what the server sent as nano's protocol: ${error.message}`)
      const take = (bytes) => {
        for (const packet of packets.feed(bytes)) {
          // A handler may close the client between two packets of one frame.
          if (this.#socket !== socket) return
          this.#heartbeat?.heard()
          this.#packet(socket, packet)
        }
      }
      // From the first Blob on, everything waits for what came before it.
      let queue = null
      socket.onmessage = ({ data }) => {
        try {
          const bytes = frameBytes(data)
          if (queue || typeof bytes.then === 'function') queue = Promise.all([bytes, queue]).then(([bytes]) => take(bytes)).catch(foreign)
          else take(bytes)
        } catch (error) {
          foreign(error)
        }
      }
      // An error is always followed by a close, which has the reason.
      socket.onerror = () => {}
      socket.onclose = (event) => (queue ? void queue.then(() => closed(event)) : closed(event))
    })
  }

  #packet(socket, { type, body }) {
    if (type === Packet.HANDSHAKE) this.#welcome(socket, body)
    else if (type === Packet.DATA) this.#receive(body)
    else if (type === Packet.KICK) this.#kicked(socket, body)
  }

  #welcome(socket, body) {
    const opening = this.#opening
    // A server may answer twice; the first reply counts.
    if (!opening) return
    this.#opening = null
    opening.settle()
    const { code, msg, sys, user } = Object(fromJson(body))
    if (code !== 200) {
      const refusal = new ReplyError(code, msg ?? 'the server refused the handshake')
      opening.reject(refusal)
      // Asked again, it would refuse again.
      return this.#finish(refusal.message)
    }
    const { dict, heartbeat } = Object(sys)
    this.#codes = new Map(Object.entries(Object(dict)))
    this.#routes = new Map([...this.#codes].map(([route, number]) => [number, route]))
    this.user = user ?? null
    this.#send(Packet.ACK)
    this.#heartbeat?.stop()
    if (heartbeat > 0) {
      const silent = () => this.#lost(socket, `nothing heard for ${2 * heartbeat} s`)
      this.#heartbeat = new Heartbeat(heartbeat * 1000, () => this.#send(Packet.HEARTBEAT), silent)
    }
    this.#state = 'open'
    opening.resolve()
  }

  #receive(bytes) {
    let message
    try {
      message = decodeMessage(bytes, this.#routes)
    } catch (error) {
      if (!(error instanceof UnknownRoute)) throw error
      return console.warn('nano: push dropped:', error.message)
    }
    if (message.kind === Kind.PUSH) this.#pushed(message)
    else if (message.kind === Kind.RESPONSE) this.#replied(message)
  }

  #pushed({ route, body }) {
    for (const entry of [...(this.#handlers.get(route) ?? [])]) {
      // Neither the next handler nor the connection suffers from one that throws.
      try {
        entry.handler(entry.raw ? body : fromJson(body))
      } catch (thrown) {
        console.error(`nano: handler of ${route}:`, thrown)
      }
    }
  }

  #replied({ id, error, body }) {
    const request = this.#pending.get(id)
    if (!request) return
    this.#pending.delete(id)
    request.settle()
    try {
      if (error) {
        const { code, msg, metadata } = Object(fromJson(body))
        request.reject(new ReplyError(code, msg, metadata ?? {}))
      } else request.resolve(request.raw ? body : fromJson(body))
    } catch (thrown) {
      request.reject(new ReplyError('NANO-400', `the reply is not JSON: ${thrown.message}`))
    }
  }

  #kicked(socket, body) {
    const { reason, code, again, window } = decodeKick(body)
    const { reconnect } = this.#options
    if (again && reconnect) return this.#lost(socket, reason, window ?? KICKED_SPREAD * reconnect.min)
    this.#emit('kick', code ? { reason, code } : { reason })
    this.#finish(reason || 'kicked by the server', true)
  }

  /** The connection broke: fail what waits for it, then try again or end. `spread` is the shortest retry window in ms. */
  #lost(socket, reason, spread = 0) {
    if (socket !== this.#socket) return
    const stood = this.#state === 'open'
    this.#drop(reason)
    // A failed attempt is reported to its caller.
    if (stood && this.#options.reconnect) this.#reconnect(reason, spread)
    else if (stood) this.#finish(reason)
  }

  async #reconnect(reason, spread) {
    const { min, max, attempts } = this.#options.reconnect
    this.#state = 'reconnecting'
    for (let attempt = 1; attempt <= attempts; attempt++) {
      // Full jitter: clients of a restarted server come back evenly spread over the window.
      const window = Math.max(spread, Math.min(max, min * 2 ** Math.min(attempt - 1, 30)))
      const delay = Math.round(window * Math.random())
      this.#emit('reconnecting', { attempt, delay, reason })
      if (this.#state === 'closed') return
      await new Promise((resolve) => (this.#retry = { resolve, spread, settle: after(delay, resolve) }))
      if (this.#state === 'closed') return
      this.#retry = null
      try {
        await this.#open()
        return this.#emit('reconnected', { user: this.user })
      } catch (error) {
        if (this.#state === 'closed') return
        reason = error.message
      }
    }
    this.#finish(reason)
  }

  /** The page is visible again or the network is back: what waits for a slow timer goes on now. */
  #wake = () => {
    if (globalThis.document?.hidden) return
    this.#heartbeat?.wake()
    // A window that spreads the clients of a stopped server is kept.
    if (this.#retry && !this.#retry.spread) {
      this.#retry.settle()
      this.#retry.resolve()
    }
  }

  /** Lets go of the socket and fails everything that waits for something from it. */
  #drop(reason) {
    const error = new ReplyError('NANO-410', reason)
    const [socket, opening, waiting] = [this.#socket, this.#opening, [...this.#pending.values()]]
    this.#socket = null
    this.#opening = null
    this.#pending.clear()
    this.#heartbeat?.stop()
    this.#heartbeat = null
    socket?.close()
    for (const { reject, settle } of opening ? [opening, ...waiting] : waiting) {
      settle()
      reject(error)
    }
  }

  #finish(reason, kicked = false) {
    if (this.#state === 'closed') return
    this.#state = 'closed'
    globalThis.removeEventListener?.('online', this.#wake)
    globalThis.document?.removeEventListener?.('visibilitychange', this.#wake)
    this.#retry?.settle()
    this.#drop(reason)
    this.#emit('close', { reason, kicked })
  }

  #send(type, body) {
    const open = this.#socket?.readyState === 1
    if (open) this.#socket.send(encodePacket(type, body))
    return open
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }))
  }
}

/** Sends a heartbeat every `interval` ms, and calls `silent` once when nothing was heard for two of them. */
class Heartbeat {
  #interval
  #send
  #silent
  #sent = Date.now()
  #sending = () => {}
  #listening = () => {}

  constructor(interval, send, silent) {
    this.#interval = interval
    this.#send = send
    this.#silent = silent
    this.#sending = after(interval, () => this.#beat())
    this.#listen(2 * interval)
  }

  /**
   * A packet arrived. Browsers slow the timers of a hidden page down to one a minute, but not its messages, so a heartbeat goes out with
   * the server's when the last one is older than half an interval: then no two are more than 1.5 intervals apart. A server waits for two.
   */
  heard() {
    this.#listen(2 * this.#interval)
    if (Math.abs(Date.now() - this.#sent) > this.#interval / 2) this.#beat()
  }

  /** The page or machine was asleep. A living server has a heartbeat for it within the next interval. */
  wake() {
    this.#listen(1.5 * this.#interval)
    this.#beat()
  }

  stop() {
    this.#sending()
    this.#listening()
  }

  #listen(ms) {
    this.#listening()
    this.#listening = after(ms, this.#silent)
  }

  #beat() {
    this.#sent = Date.now()
    this.#sending()
    this.#sending = after(this.#interval, () => this.#beat())
    this.#send()
  }
}

/** Calls `run` once in `ms` milliseconds, never for `Infinity`. Returns a function that cancels it. */
function after(ms, run) {
  if (ms === Infinity) return () => {}
  let timer
  const wait = (rest) => {
    const step = Math.min(rest, MAX_DELAY)
    timer = setTimeout(() => (rest > step ? wait(rest - step) : run()), step)
  }
  wait(ms)
  return () => clearTimeout(timer)
}

function concat(head, tail) {
  const bytes = new Uint8Array(head.length + tail.length)
  bytes.set(head)
  bytes.set(tail, head.length)
  return bytes
}

const className = (value) => Object.prototype.toString.call(value).slice(8, -1)

/** A view of the bytes of an `ArrayBuffer` or of a view of one, else null. */
function binary(value) {
  if (ArrayBuffer.isView(value)) return new Uint8Array(value.buffer, value.byteOffset, value.byteLength)
  // By name: a buffer may come from another realm.
  return className(value) === 'ArrayBuffer' ? new Uint8Array(value) : null
}

function toBytes(value) {
  const bytes = binary(value)
  if (bytes) return bytes
  const json = JSON.stringify(value ?? {})
  if (json === undefined) throw new TypeError(`${className(value)} is not JSON`)
  return encoder.encode(json)
}

/** The bytes of a WebSocket frame, or a promise of them for a platform that hands frames over as Blobs. */
function frameBytes(data) {
  if (typeof data === 'string') return encoder.encode(data)
  const bytes = binary(data)
  if (bytes) return bytes
  if (typeof data?.arrayBuffer === 'function') return data.arrayBuffer().then((buffer) => new Uint8Array(buffer))
  throw new TypeError(`a frame is of type ${className(data)}, which cannot be read here`)
}

/** What a kick says. `again` is whether to connect again, `window` the time in ms over which the clients do so, if it is stated. */
function decodeKick(body) {
  let kick
  try {
    kick = Object(fromJson(body))
  } catch {
    kick = { reason: decoder.decode(body) }
  }
  const { reason, code, reconnect, retryAfter } = kick
  return {
    reason: String(reason ?? ''),
    code: String(code ?? ''),
    again: ['here', 'elsewhere'].includes(reconnect) || (reconnect !== 'never' && reason === SHUTDOWN),
    window: retryAfter >= 0 && retryAfter <= MAX_WINDOW ? Number(retryAfter) : undefined,
  }
}

function fromJson(bytes) {
  return bytes.length ? JSON.parse(decoder.decode(bytes)) : undefined
}
