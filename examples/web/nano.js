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
 * Bodies are JSON; a `Uint8Array` or `ArrayBuffer` is sent as it is, and `{ raw: true }` hands received bytes over undecoded.
 * A `Client` is an `EventTarget`. Its events, each with a `detail`:
 *
 * - `kick { reason }`: the server closed this session; a `close` follows, and no reconnect. A server that stops kicks every client, which is
 *   nothing personal: with `reconnect` it counts as a broken connection.
 * - `reconnecting { attempt, delay, reason }`: the connection is gone, the next attempt starts in `delay` milliseconds.
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
/** The reason of the kick that a stopping server sends to its clients. */
const SHUTDOWN = 'server is shutting down'

const encoder = new TextEncoder()
const decoder = new TextDecoder()

/** Why a request failed. `code` and `msg` are the server's, or `NANO-408` (no answer in time) and `NANO-410` (connection closed). */
export class ReplyError extends Error {
  constructor(code, msg, metadata = {}) {
    super(`${code}: ${msg}`)
    this.name = 'ReplyError'
    this.code = code
    this.msg = msg
    this.metadata = metadata
  }
}

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
    if (message.route === undefined) throw new Error(`route code ${code} is not in the dictionary`)
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
  #retry

  /**
   * - `user`: any JSON value, sent in the handshake.
   * - `reconnect`: false; true; or `{ min, max, attempts }`: first and longest delay (500 and 15000 ms), and how often (for ever).
   * - `timeout`: how long a request waits for its reply, in ms (10000; 0 for ever).
   * - `connectTimeout`: how long connecting may take until the handshake is done, in ms (10000).
   * - `WebSocket`: the constructor to use, where the platform has none.
   */
  constructor(url, options = {}) {
    super()
    const { reconnect = false } = options
    this.#url = url
    this.#options = { user: {}, timeout: 10000, connectTimeout: 10000, WebSocket: globalThis.WebSocket, ...options }
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
      this.#send(Packet.DATA, encodeMessage({ kind: Kind.REQUEST, id, route, body: toBytes(msg) }, this.#codes))
      const expire = () => {
        this.#pending.delete(id)
        reject(new ReplyError('NANO-408', `no reply to ${route} within ${timeout} ms`))
      }
      this.#pending.set(id, { resolve, reject, raw, timer: timeout ? setTimeout(expire, timeout) : undefined })
    })
  }

  /** Sends a message that has no reply. False when there is no connection to send it on. */
  notify(route, msg) {
    if (this.#state !== 'open') return false
    return this.#send(Packet.DATA, encodeMessage({ kind: Kind.NOTIFY, route, body: toBytes(msg) }, this.#codes))
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

  #open() {
    return new Promise((resolve, reject) => {
      const { connectTimeout } = this.#options
      const socket = new this.#options.WebSocket(this.#url)
      const packets = new PacketDecoder()
      this.#socket = socket
      this.#opening = { resolve, reject, timer: setTimeout(() => this.#lost(socket, `no handshake within ${connectTimeout} ms`), connectTimeout) }
      socket.binaryType = 'arraybuffer'
      socket.onopen = () => this.#send(Packet.HANDSHAKE, toBytes({ sys: { type: 'nano.js', version: '1.0.0' }, user: this.#options.user }))
      socket.onmessage = ({ data }) => {
        try {
          for (const { type, body } of packets.feed(toBytes(data))) {
            // A handler may close the client between two packets of one frame.
            if (this.#socket !== socket) return
            this.#heartbeat?.heard()
            if (type === Packet.HANDSHAKE) this.#welcome(socket, fromJson(body))
            else if (type === Packet.DATA) this.#receive(decodeMessage(body, this.#routes))
            else if (type === Packet.KICK) this.#kicked(socket, body)
          }
        } catch (error) {
          this.#lost(socket, `the server sent something else than nano's protocol: ${error.message}`)
        }
      }
      // An error is always followed by a close, which has the reason.
      socket.onerror = () => {}
      socket.onclose = ({ code, reason }) => this.#lost(socket, reason || `connection closed (${code})`)
    })
  }

  #welcome(socket, { code, msg = 'the server refused the handshake', sys = {}, user = null }) {
    const opening = this.#opening
    if (code !== 200) {
      opening.reject(new ReplyError(code, msg))
      // Asked again, it would refuse again.
      return this.#finish(`${code}: ${msg}`)
    }
    this.#codes = new Map(Object.entries(sys.dict ?? {}))
    this.#routes = new Map([...this.#codes].map(([route, number]) => [number, route]))
    this.user = user
    this.#send(Packet.ACK)
    if (sys.heartbeat > 0) {
      const interval = sys.heartbeat * 1000
      const silent = () => this.#lost(socket, `nothing heard for ${2 * sys.heartbeat} s`)
      this.#heartbeat = new Heartbeat(interval, () => this.#send(Packet.HEARTBEAT), silent)
    }
    this.#state = 'open'
    clearTimeout(opening.timer)
    opening.resolve()
  }

  #receive({ kind, id, route, error, body }) {
    if (kind === Kind.PUSH) {
      for (const entry of [...(this.#handlers.get(route) ?? [])]) {
        // A handler that throws is its own problem: neither the next handler nor the connection suffers.
        try {
          entry.handler(entry.raw ? body : fromJson(body))
        } catch (thrown) {
          console.error(`nano: handler of ${route}:`, thrown)
        }
      }
      return
    }
    const request = this.#pending.get(id)
    if (kind !== Kind.RESPONSE || !request) return
    this.#pending.delete(id)
    clearTimeout(request.timer)
    try {
      if (error) {
        const { code, msg, metadata } = fromJson(body)
        request.reject(new ReplyError(code, msg, metadata))
      } else request.resolve(request.raw ? body : fromJson(body))
    } catch (thrown) {
      request.reject(new ReplyError('NANO-400', `the reply is not JSON: ${thrown.message}`))
    }
  }

  #kicked(socket, body) {
    let reason = ''
    try {
      reason = fromJson(body)?.reason ?? ''
    } catch {
      reason = decoder.decode(body)
    }
    if (reason === SHUTDOWN && this.#options.reconnect) return this.#lost(socket, reason)
    this.#emit('kick', { reason })
    this.#finish(reason || 'kicked by the server', true)
  }

  /** The connection broke: fail what waits for it, then try again or end. */
  #lost(socket, reason) {
    if (socket !== this.#socket) return
    const stood = this.#state === 'open'
    this.#drop(reason)
    // A failed attempt is reported to its caller.
    if (stood && this.#options.reconnect) this.#reconnect(reason)
    else if (stood) this.#finish(reason)
  }

  async #reconnect(reason) {
    const { min, max, attempts } = this.#options.reconnect
    this.#state = 'reconnecting'
    for (let attempt = 1; attempt <= attempts; attempt++) {
      // Between half and all of an exponentially growing delay, so that clients of a restarted server do not all come back at once.
      const delay = Math.round(Math.min(max, min * 2 ** (attempt - 1)) * (0.5 + Math.random() / 2))
      this.#emit('reconnecting', { attempt, delay, reason })
      await new Promise((resolve) => (this.#retry = setTimeout(resolve, delay)))
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

  /** Lets go of the socket and fails everything that waits for something from it. */
  #drop(reason) {
    const error = new ReplyError('NANO-410', reason)
    const [socket, waiting] = [this.#socket, [...this.#pending.values()]]
    this.#socket = null
    this.#pending.clear()
    this.#heartbeat?.stop()
    this.#heartbeat = null
    clearTimeout(this.#opening?.timer)
    socket?.close()
    this.#opening?.reject(error)
    for (const { reject, timer } of waiting) {
      clearTimeout(timer)
      reject(error)
    }
  }

  #finish(reason, kicked = false) {
    if (this.#state === 'closed') return
    this.#state = 'closed'
    clearTimeout(this.#retry)
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
  #sending
  #listening

  constructor(interval, send, silent) {
    this.#interval = interval
    this.#send = send
    this.#silent = silent
    this.#sending = setInterval(() => this.#beat(), interval)
    this.heard()
  }

  heard() {
    clearTimeout(this.#listening)
    this.#listening = setTimeout(this.#silent, 2 * this.#interval)
    // Browsers slow the timers of a hidden page down, but not its messages: an overdue heartbeat goes out with the next one.
    if (Date.now() - this.#sent > 1.25 * this.#interval) this.#beat()
  }

  stop() {
    clearInterval(this.#sending)
    clearTimeout(this.#listening)
  }

  #beat() {
    this.#sent = Date.now()
    this.#send()
  }
}

function concat(head, tail) {
  const bytes = new Uint8Array(head.length + tail.length)
  bytes.set(head)
  bytes.set(tail, head.length)
  return bytes
}

function toBytes(value) {
  if (value instanceof ArrayBuffer) return new Uint8Array(value)
  if (value instanceof Uint8Array) return value
  return encoder.encode(JSON.stringify(value ?? {}))
}

function fromJson(bytes) {
  return bytes.length ? JSON.parse(decoder.decode(bytes)) : undefined
}
