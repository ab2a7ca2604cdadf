// A pomelo client over TCP for stand-ins of clients that no registry has. A dialect is what sets one apart:
//
//   hello                the handshake body
//   dictionary(sys)      `{ codes, routes }` from the handshake reply
//   kind(flag)           the message type of a flag byte; a number over 3 ends the connection
//   heartbeat(client)    starts its heartbeats; `client.beat()` sends one, `client.onbeat` is called for each of the server's
//   body(bytes)          optional: `{ flag, bytes }`, what is sent for a body
import { createConnection } from 'node:net'

const [HANDSHAKE, ACK, HEARTBEAT, DATA, KICK] = [1, 2, 3, 4, 5]
const [REQUEST, NOTIFY, RESPONSE, PUSH] = [0, 1, 2, 3]

export class TcpClient {
  /** Why the connection ended: `kick`, `close`, or what the dialect could not read. */
  ended = null
  /** The reason of the kick. */
  reason = null
  /** The `sys` of the handshake reply. */
  sys = null
  /** Replies with the error bit. */
  marked = 0
  onbeat = () => {}
  #dialect
  #socket
  #rest = Buffer.alloc(0)
  #nextId = 1
  #pending = new Map()
  #waiting = new Map()
  #arrived = new Map()
  #codes = new Map()
  #routes = new Map()
  #open

  static connect(port, dialect) {
    const client = new TcpClient()
    client.#dialect = dialect
    client.#socket = createConnection({ host: '127.0.0.1', port }, () => client.#packet(HANDSHAKE, Buffer.from(JSON.stringify(dialect.hello))))
    client.#socket.on('data', (bytes) => client.#read(bytes))
    client.#socket.on('error', () => {})
    client.#socket.on('close', () => client.end('close'))
    return new Promise((resolve) => (client.#open = () => resolve(client)))
  }

  request(route, msg) {
    const id = this.#nextId++
    this.#message(REQUEST, id, route, msg)
    return new Promise((resolve) => this.#pending.set(id, resolve))
  }

  notify(route, msg) {
    this.#message(NOTIFY, 0, route, msg)
  }

  /** The body of the next push with this route; `end` is the end of the connection. */
  next(route) {
    const arrived = this.#arrived.get(route)
    if (arrived?.length) return Promise.resolve(arrived.shift())
    return new Promise((resolve) => this.#waiting.set(route, [...(this.#waiting.get(route) ?? []), resolve]))
  }

  interval() {
    return this.sys.heartbeat * 1000
  }

  connected() {
    return this.ended === null
  }

  beat() {
    if (this.connected()) this.#packet(HEARTBEAT, Buffer.alloc(0))
  }

  end(reason) {
    if (this.ended) return
    this.ended = reason
    this.#socket.destroy()
    this.#event('end', reason)
  }

  #packet(type, body) {
    const head = Buffer.from([type, 0, 0, 0])
    head.writeUIntBE(body.length, 1, 3)
    this.#socket.write(Buffer.concat([head, body]))
  }

  #message(kind, id, route, msg) {
    const plain = Buffer.from(JSON.stringify(msg))
    const { flag, bytes } = this.#dialect.body?.(plain) ?? { flag: 0, bytes: plain }
    const code = this.#codes.get(route)
    const head = [(kind << 1) | flag | (code ? 1 : 0)]
    for (let rest = id; kind === REQUEST; rest >>= 7) {
      head.push(rest > 127 ? (rest & 127) | 128 : rest)
      if (rest < 128) break
    }
    const name = code ? Buffer.from([code >> 8, code & 255]) : Buffer.concat([Buffer.from([route.length]), Buffer.from(route)])
    this.#packet(DATA, Buffer.concat([Buffer.from(head), name, bytes]))
  }

  #read(bytes) {
    this.#rest = Buffer.concat([this.#rest, bytes])
    while (this.#rest.length >= 4 && this.connected()) {
      const end = 4 + this.#rest.readUIntBE(1, 3)
      if (this.#rest.length < end) return
      const [type, body] = [this.#rest[0], this.#rest.subarray(4, end)]
      this.#rest = this.#rest.subarray(end)
      if (type === HANDSHAKE) this.#shake(JSON.parse(body))
      else if (type === HEARTBEAT) this.onbeat()
      else if (type === DATA) this.#receive(body)
      else if (type === KICK) {
        this.reason = JSON.parse(body).reason
        this.end('kick')
      } else this.end(`packet type ${type}`)
    }
  }

  #shake({ code, sys }) {
    if (code !== 200) return this.end(`handshake code ${code}`)
    this.sys = sys
    const { codes = {}, routes = {} } = this.#dialect.dictionary(sys)
    this.#codes = new Map(Object.entries(codes))
    this.#routes = new Map(Object.entries(routes).map(([code, route]) => [Number(code), route]))
    this.#packet(ACK, Buffer.alloc(0))
    this.#dialect.heartbeat(this)
    this.#open()
  }

  #receive(body) {
    const flag = body[0]
    const kind = this.#dialect.kind(flag)
    if (kind === RESPONSE) {
      let [id, at, shift] = [0, 1, 0]
      for (; body[at] > 127; at++, shift += 7) id |= (body[at] & 127) << shift
      id |= body[at++] << shift
      if (flag & 0x20) this.marked++
      const resolve = this.#pending.get(id)
      this.#pending.delete(id)
      resolve?.(JSON.parse(body.subarray(at)))
    } else if (kind === PUSH) {
      const end = flag & 1 ? 3 : 2 + body[1]
      const route = flag & 1 ? this.#routes.get(body.readUInt16BE(1)) : body.subarray(2, end).toString()
      if (route === undefined) return this.end(`route code ${body.readUInt16BE(1)}`)
      this.#event(route, JSON.parse(body.subarray(end)))
    } else this.end(`message type ${kind}`)
  }

  #event(route, body) {
    const [resolve, ...others] = this.#waiting.get(route) ?? []
    this.#waiting.set(route, others)
    if (resolve) resolve(body)
    else this.#arrived.set(route, [...(this.#arrived.get(route) ?? []), body])
  }
}
