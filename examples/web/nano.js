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
 * - `resumed {}`: connected again, in the same session, and nothing is missing; only with the option `resume`. What the server pushed
 *   meanwhile comes behind it.
 * - `lost { reason }`: the session that `resume` kept is gone, with all requests in flight and all that was not delivered. `reason` is one of
 *   `unknown` (to the server, which may have restarted), `expired` (away for too long), `overflow` (more was waiting than is kept), `closed`
 *   (by the server), `invalid` (the counts do not match) and `unsupported`. A `reconnected` or `close` follows.
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
/** What is kept of unacknowledged messages: as much as a server keeps. */
const KEPT = Object.freeze({ bytes: 4 * 1024 * 1024, messages: 65536 })
/** An acknowledgement is due after this many data packets, or bytes of their bodies. */
const ACK_AFTER = Object.freeze({ packets: 256, bytes: 32 * 1024 })
/** How many retry windows, at least, fit into the time for which the server keeps the session. */
const RETURNS = 10
/** Why a session is lost, as servers write it. */
const LOST = ['unknown', 'expired', 'overflow', 'closed', 'invalid', 'unsupported']

const missing = ['TextEncoder', 'TextDecoder', 'EventTarget', 'CustomEvent'].filter((name) => typeof globalThis[name] === 'undefined')
if (missing.length) throw new Error(`nano.js: this platform has no ${missing.join(', ')}; load a polyfill first`)

const encoder = new TextEncoder()
const decoder = new TextDecoder()

/**
 * Why a request failed. `code` and `msg` are the server's, or this client's: `NANO-400` (the message cannot be encoded, the reply not be
 * decoded), `NANO-408` (no answer in time), `NANO-410` (connection closed, or session lost), `NANO-413` (longer than `maxPacket`), `NANO-429`
 * (too much is unacknowledged).
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
    pushVarint(head, id)
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
  #resumption = null

  /**
   * - `user`: any JSON value, sent in the handshake.
   * - `reconnect`: false; true; or `{ min, max, attempts }`. Each delay is random, up to a window that doubles from `min` (500 ms) to `max`
   *   (15000 ms); `attempts` is how often (Infinity). After a kick that asks to connect again, no window is shorter than the one it states, or than ten
   *   times `min`.
   * - `resume`: false; true; or `{ bytes, messages }`. Asks the server to keep the session through lost connections: the same session goes on,
   *   and every message of both sides arrives once and in order. Requests in flight wait for the return, within their timeout, and so does
   *   what is sent meanwhile. `bytes` (4 MiB) and `messages` (65536) bound what the server has not acknowledged. Attempts are those of
   *   `reconnect`, for as long as the server keeps the session; then a new session follows, unless `reconnect` is false. Its default with
   *   `resume` is true. At a server that does not resume sessions all is as without this.
   * - `traceparent`, `tracestate`: a trace of W3C Trace Context, as texts; all messages become part of it, if the server traces them.
   * - `timeout`: how long a request waits for its reply, in ms (10000; 0 or Infinity for ever).
   * - `connectTimeout`: how long connecting may take until the handshake is done, in ms (10000; 0 or Infinity for ever).
   * - `maxPacket`: the longest message in bytes, with its route (65536, the server's `Limits::max_packet`). A server closes the connection of
   *   a longer one, so it is refused here.
   * - `WebSocket`: the constructor to use, where the platform has none.
   */
  constructor(url, options = {}) {
    super()
    const { user = {}, resume = false, timeout = 10000, connectTimeout = 10000, maxPacket = 65536, WebSocket = globalThis.WebSocket } = options
    const { reconnect = Boolean(resume) } = options
    if (!WebSocket) throw new Error('nano.js: this platform has no WebSocket; give one as the option of that name')
    this.#url = url
    const { traceparent, tracestate } = options
    // Neither is there in JSON without a value.
    this.#options = { user, trace: { traceparent, tracestate }, timeout, connectTimeout, maxPacket, WebSocket, reconnect: Boolean(reconnect) }
    this.#options.retry = { min: 500, max: 15000, attempts: reconnect ? Infinity : 0, ...(reconnect === true ? {} : reconnect) }
    this.#options.resume = resume ? { ...KEPT, ...(resume === true ? {} : resume) } : null
    /** The `user` value of the handshake reply, or null. */
    this.user = null
  }

  /** `idle`, `connecting`, `open`, `reconnecting` or `closed`. */
  get state() {
    return this.#state
  }

  /** Whether the server keeps the session through a loss of the connection. While reconnecting, messages are sent all the same then. */
  get resumable() {
    return this.#resumption !== null
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
   * is rejected, not repeated: only the caller knows whether twice is harmless. With `resume` it is rejected when the session is lost.
   * `options`: `timeout`, `raw`.
   */
  request(route, msg, { timeout = this.#options.timeout, raw = false } = {}) {
    return new Promise((resolve, reject) => {
      if (!this.#sendable) throw new ReplyError('NANO-410', `not connected: ${this.#state}`)
      const id = this.#nextId++
      this.#transmit(this.#encode({ kind: Kind.REQUEST, id, route }, msg))
      const expire = () => {
        this.#pending.delete(id)
        reject(new ReplyError('NANO-408', `no reply to ${route} within ${timeout} ms`))
      }
      this.#pending.set(id, { resolve, reject, raw, settle: after(timeout || Infinity, expire) })
    })
  }

  /** Sends a message that has no reply. False when it was not sent: there is no connection, or the console says what is wrong with it. */
  notify(route, msg) {
    if (!this.#sendable) return false
    try {
      return this.#transmit(this.#encode({ kind: Kind.NOTIFY, route }, msg))
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

  /** Closes for good, and ends the session at once. Requests in flight are rejected. */
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

  get #sendable() {
    return this.#state === 'open' || (this.#state === 'reconnecting' && this.#resumption !== null)
  }

  /** Sends a message, or keeps it for the return to the session. */
  #transmit(message) {
    const packet = encodePacket(Packet.DATA, message)
    const session = this.#resumption
    if (!session) return this.#write(packet)
    if (!session.fits(packet)) throw new ReplyError('NANO-429', `too much is unacknowledged: ${session.usage}`)
    session.record(packet)
    if (this.#state === 'open') {
      this.#write(packet)
      this.#acknowledge()
    }
    return true
  }

  #open() {
    return new Promise((resolve, reject) => {
      const { connectTimeout, maxPacket, user, trace, resume } = this.#options
      const ask = resume ? { resume: this.#resumption?.ask ?? {} } : {}
      const hello = toBytes({ sys: { type: 'nano.js', version: '1.0.0', errorFlag: true, ...trace, ...ask }, user })
      if (hello.length > maxPacket) throw new ReplyError('NANO-413', `handshake refused: ${hello.length} bytes, maxPacket is ${maxPacket}`)
      const socket = new this.#options.WebSocket(this.#url)
      const packets = new PacketDecoder()
      const expire = () => this.#lost(socket, `no handshake within ${connectTimeout} ms`)
      this.#socket = socket
      this.#opening = { resolve, reject, settle: after(connectTimeout || Infinity, expire) }
      socket.binaryType = 'arraybuffer'
      socket.onopen = () => this.#send(Packet.HANDSHAKE, hello)
      const closed = ({ code, reason }) => this.#lost(socket, reason || `connection closed (${code})`)
      const foreign = (error) => this.#lost(socket, `cannot read what the server sent as nano's protocol: ${error.message}`, { over: 'invalid' })
      const take = (bytes) => {
        for (const packet of packets.feed(bytes)) {
          // A handler may close the client between two packets of one frame.
          if (this.#socket !== socket) return
          this.#heartbeat?.heard()
          this.#packet(socket, packet)
        }
        this.#acknowledge()
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
    if (type === Packet.HANDSHAKE) this.#openSession(socket, body)
    else if (type === Packet.HEARTBEAT) this.#resumption?.acknowledge(body)
    else if (type === Packet.KICK) this.#kicked(socket, body)
    else if (type === Packet.DATA) {
      // Counted first: what cannot be handled is not wanted again.
      this.#resumption?.receive(body.length)
      this.#receive(body)
    }
  }

  #openSession(socket, body) {
    const opening = this.#opening
    // A server may answer twice; the first reply counts.
    if (!opening) return
    const { code, msg, sys, user } = Object(fromJson(body))
    const { dict, heartbeat, resume } = Object(sys)
    const [session, grant] = [this.#resumption, this.#options.resume && decodeGrant(resume)]
    const resumed = code === 200 && session !== null && grant !== null && !grant.lost
    const again = resumed ? session.resume(grant) : []
    this.#opening = null
    opening.settle()
    if (code !== 200) {
      const refusal = new ReplyError(code, msg ?? 'the server refused the handshake')
      opening.reject(refusal)
      // Asked again, it would refuse again.
      return this.#finish(refusal.message)
    }
    if (!resumed) {
      this.#codes = new Map(Object.entries(Object(dict)))
      this.#routes = new Map([...this.#codes].map(([route, number]) => [number, route]))
      this.user = user ?? null
    }
    this.#send(Packet.ACK)
    for (const packet of again) this.#write(packet)
    if (heartbeat > 0) {
      const silent = () => this.#lost(socket, `nothing heard for ${2 * heartbeat} s`)
      this.#heartbeat = new Heartbeat(heartbeat * 1000, () => this.#beat(), silent)
    }
    const returned = this.#state === 'reconnecting'
    this.#state = 'open'
    opening.resolve()
    if (resumed) return this.#emit('resumed', {})
    this.#lose(grant?.lost || 'unsupported', grant && new Resumption(grant, this.#options.resume))
    // A handler may have closed the client.
    if (!returned || this.#socket !== socket) return
    if (this.#options.reconnect) this.#emit('reconnected', { user: this.user })
    else this.#finish('the session is lost')
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
    const { reconnect, retry } = this.#options
    if (again && reconnect) {
      // Before the handshake it is a connection that is ended, not the session.
      const over = this.#state === 'open' ? 'closed' : ''
      return this.#lost(socket, reason, { spread: window ?? KICKED_SPREAD * retry.min, over })
    }
    this.#emit('kick', code ? { reason, code } : { reason })
    this.#finish(reason || 'kicked by the server', true)
  }

  /**
   * The connection broke: keep the session for the return, or fail what waits for it; then try again, or end. `spread` is the shortest retry
   * window in ms, `over` why the session cannot be resumed, if it cannot; `hurry` is for a return at once.
   */
  #lost(socket, reason, { spread = 0, over = '', hurry = false } = {}) {
    if (socket !== this.#socket) return
    const stood = this.#state === 'open'
    if (stood) this.#state = 'reconnecting'
    this.#release(reason, over !== '')
    if (over) this.#lose(over, null, reason)
    if (!this.#resumption) this.#fail(reason)
    // A failed attempt is reported to its caller, and a handler may have closed the client.
    if (!stood || this.#state === 'closed') return
    if (this.#resumption || this.#options.reconnect) this.#reconnect(reason, spread, hurry)
    else this.#finish(reason)
  }

  /** The session that could be resumed is gone, if there was one; `next` is what follows it. */
  #lose(why, next, reason = `the session is lost: ${why}`) {
    const session = this.#resumption
    this.#resumption = next
    if (!session) return
    this.#fail(reason)
    this.#emit('lost', { reason: why })
  }

  async #reconnect(reason, spread, hurry) {
    const { min, max, attempts } = this.#options.retry
    const until = Date.now() + (this.#resumption?.window ?? 0)
    for (let attempt = 1, left = attempts; this.#resumption || left > 0; attempt++) {
      const session = this.#resumption
      if (!session) left--
      // Full jitter: clients of a restarted server come back evenly spread over the window.
      const longest = session ? Math.min(max, session.window / RETURNS) : max
      const window = Math.max(spread, Math.min(longest, min * 2 ** Math.min(attempt - 1, 30)))
      let delay = Math.round(window * Math.random())
      if (session) {
        // One attempt at the end of the session's time. The timers of a hidden page may be too slow for it.
        const now = attempt === 1 && (hurry || globalThis.document?.hidden)
        delay = now ? 0 : Math.max(0, Math.min(delay, until - Date.now()))
      }
      this.#emit('reconnecting', { attempt, delay, reason })
      if (this.#state === 'closed') return
      if (delay) await new Promise((resolve) => (this.#retry = { resolve, spread, settle: after(delay, resolve) }))
      if (this.#state === 'closed') return
      this.#retry = null
      try {
        return await this.#open()
      } catch (error) {
        if (this.#state === 'closed') return
        reason = error.message
        if (session && Date.now() >= until) this.#lose('expired', null)
        if (this.#state === 'closed') return
      }
    }
    this.#finish(reason)
  }

  /** The page is visible again or the network is back: what waits for a slow timer goes on now. */
  #wake = ({ type }) => {
    if (type === 'visibilitychange' && globalThis.document?.hidden) return
    // A socket from before is most likely dead, which would take two heartbeats to notice. A return costs less, and nothing is lost.
    if (type === 'online' && this.#state === 'open' && this.#resumption) {
      return this.#lost(this.#socket, 'the network was away', { hurry: true })
    }
    this.#heartbeat?.wake()
    // A window that spreads the clients of a stopped server is kept.
    if (this.#retry && !this.#retry.spread) {
      this.#retry.settle()
      this.#retry.resolve()
    }
  }

  /** Lets go of the socket. `final` also ends the session, if it outlives connections. */
  #release(reason, final) {
    const [socket, opening] = [this.#socket, this.#opening]
    if (final && this.#resumption) this.#send(Packet.KICK)
    this.#socket = null
    this.#opening = null
    this.#heartbeat?.stop()
    this.#heartbeat = null
    // Any other code, and none, is a loss to the server.
    if (final && this.#options.resume) socket?.close(1000)
    else socket?.close()
    opening?.settle()
    opening?.reject(new ReplyError('NANO-410', reason))
  }

  /** Fails all requests in flight. */
  #fail(reason) {
    const waiting = [...this.#pending.values()]
    this.#pending.clear()
    for (const { reject, settle } of waiting) {
      settle()
      reject(new ReplyError('NANO-410', reason))
    }
  }

  #finish(reason, kicked = false) {
    if (this.#state === 'closed') return
    this.#state = 'closed'
    globalThis.removeEventListener?.('online', this.#wake)
    globalThis.document?.removeEventListener?.('visibilitychange', this.#wake)
    this.#retry?.settle()
    this.#release(reason, true)
    this.#resumption = null
    this.#fail(reason)
    this.#emit('close', { reason, kicked })
  }

  #send(type, body) {
    return this.#write(encodePacket(type, body))
  }

  #write(packet) {
    const open = this.#socket?.readyState === 1
    if (open) this.#socket.send(packet)
    return open
  }

  #beat() {
    this.#send(Packet.HEARTBEAT, this.#resumption?.count())
  }

  /** Sends heartbeats ahead of their time if the server should learn at once how much has arrived, or is asked that. */
  #acknowledge() {
    while (this.#state === 'open' && this.#resumption?.due) {
      if (this.#heartbeat) this.#heartbeat.beat()
      else this.#beat()
    }
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }))
  }
}

/**
 * A session that outlives its connections: how many data packets have arrived in it, and the packets that may have to be sent again. Both
 * sides tell each other their counts in heartbeats.
 */
class Resumption {
  /** Whether the server should learn the count now, ahead of the next heartbeat. */
  due = false
  /** How long the server keeps the session after a loss, in ms. */
  window = 0
  #limits
  #token = ''
  #received = 0
  /** What the server knows of `#received`, and the bytes that came since. */
  #announced = 0
  #unannounced = 0
  /** The packets that the server has not acknowledged, those that it has, and the bytes of the first. */
  #kept = []
  #acknowledged = 0
  #bytes = 0
  /** Whether the server is asked for its count because half of the limits is used: `due` until a count repeats the one before. */
  #question = 'none'

  constructor({ token, window }, limits) {
    this.#token = token
    this.window = window
    this.#limits = limits
  }

  /** What asks for this session in a handshake. */
  get ask() {
    return { token: this.#token, received: this.#received }
  }

  get usage() {
    return `${this.#kept.length} messages, ${this.#bytes} bytes`
  }

  receive(length) {
    this.#received++
    this.#unannounced += length
    if (this.#received - this.#announced >= ACK_AFTER.packets || this.#unannounced >= ACK_AFTER.bytes) this.due = true
  }

  /** Whether a packet can be kept; the first one always can. */
  fits(packet) {
    const { bytes, messages } = this.#limits
    return !this.#kept.length || (this.#kept.length < messages && this.#bytes + packet.length <= bytes)
  }

  /** Keeps a packet that is about to be sent, now or after a return. */
  record(packet) {
    this.#kept.push(packet)
    this.#bytes += packet.length
    const half = this.#kept.length > this.#limits.messages / 2 || this.#bytes > this.#limits.bytes / 2
    if (half && this.#question === 'none') {
      this.#question = 'due'
      this.due = true
    }
  }

  /** Takes the body of a heartbeat; an empty one says nothing. Throws when it cannot be right. */
  acknowledge(body) {
    if (!body.length) return
    const count = decodeVarint(body)
    // One that repeats the last is a question.
    const repeated = count === this.#acknowledged
    this.#forget(count)
    if (repeated && this.#received > this.#announced) this.due = true
  }

  /** The body of a heartbeat. */
  count() {
    this.#announce()
    return Uint8Array.from(pushVarint([], this.#received))
  }

  /** Goes on over a new connection. Returns the packets to send again, before anything new. Throws when the count cannot be right. */
  resume({ token, window, received }) {
    this.#forget(received)
    this.#token = token
    this.window = window
    this.#announce()
    return this.#kept
  }

  #announce() {
    if (this.#question === 'due' && this.#announced === this.#received) this.#question = 'asked'
    this.#announced = this.#received
    this.#unannounced = 0
    this.due = this.#question === 'due'
  }

  #forget(count) {
    const sent = this.#acknowledged + this.#kept.length
    if (!(count >= this.#acknowledged && count <= sent)) {
      throw new Error(`${count} messages acknowledged, of ${sent} sent and ${this.#acknowledged} acknowledged before`)
    }
    for (const packet of this.#kept.splice(0, count - this.#acknowledged)) this.#bytes -= packet.length
    this.#acknowledged = count
    this.#question = 'none'
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
    this.#sending = after(interval, () => this.beat())
    this.#listen(2 * interval)
  }

  /**
   * A packet arrived. Browsers slow the timers of a hidden page down to one a minute, but not its messages, so a heartbeat goes out with
   * the server's when the last one is older than half an interval: then no two are more than 1.5 intervals apart. A server waits for two.
   */
  heard() {
    this.#listen(2 * this.#interval)
    if (Math.abs(Date.now() - this.#sent) > this.#interval / 2) this.beat()
  }

  /** The page or machine was asleep. A living server has a heartbeat for it within the next interval. */
  wake() {
    this.#listen(1.5 * this.#interval)
    this.beat()
  }

  /** Sends one now; the next is due an interval later. */
  beat() {
    this.#sent = Date.now()
    this.#sending()
    this.#sending = after(this.#interval, () => this.beat())
    this.#send()
  }

  stop() {
    this.#sending()
    this.#listening()
  }

  #listen(ms) {
    this.#listening()
    this.#listening = after(ms, this.#silent)
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

/** Appends a number to bytes, 7 bits per byte, lowest first. */
function pushVarint(bytes, number) {
  // Division, not shifts: numbers may exceed 32 bits.
  let rest = number
  for (; rest > 127; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128)
  bytes.push(rest)
  return bytes
}

/** The number that all of these bytes are. */
function decodeVarint(bytes) {
  const ends = bytes.findIndex((byte) => byte < 128)
  if (ends < 0 || ends !== bytes.length - 1) throw new Error('the body of a heartbeat is not a count')
  return bytes.reduceRight((number, byte) => number * 128 + (byte & 127), 0)
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

/** What a handshake reply says of the session; null if it cannot be resumed. */
function decodeGrant(field) {
  const { token, window, received, lost } = Object(field)
  if (typeof token !== 'string') return null
  const known = LOST.includes(lost) ? lost : 'unknown'
  return {
    token,
    window: window > 0 && Number.isFinite(window) ? window * 1000 : 0,
    received: Number.isSafeInteger(received) ? received : 0,
    lost: typeof lost === 'string' ? known : '',
  }
}

function fromJson(bytes) {
  return bytes.length ? JSON.parse(decoder.decode(bytes)) : undefined
}
