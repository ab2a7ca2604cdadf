// npm's pomelo-protocol or pinus-protocol as a line service: a question in JSON per line on stdin, an answer in JSON per line on stdout, bytes in hex.
//
//   {"op": "packet.encode", "type": 4, "body": "0102"}                          -> {"hex": "040000020102"}
//   {"op": "packet.decode", "hex": "040000020102"}                              -> {"packets": [{"type": 4, "body": "0102"}]}
//   {"op": "message.encode", "kind": 0, "id": 1, "route": "a.b", "body": ""}    -> {"hex": "000103612e62"}
//   {"op": "message.encode", "kind": 1, "id": 0, "route": 300, "body": ""}      -> {"hex": "03012c"}, a number is a dictionary code
//   {"op": "message.decode", "hex": "000103612e62"}                             -> {"kind": 0, "id": 1, "route": "a.b", "body": ""}
//
// What it throws becomes {"error": ".."}.
// usage: node codec.mjs <package>
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'

// pomelo-protocol still calls `new Buffer`.
process.noDeprecation = true
const { Package, Message } = createRequire(import.meta.url)(process.argv[2])

const bytes = (hex) => Buffer.from(hex, 'hex')
const hex = (bytes) => Buffer.from(bytes ?? []).toString('hex')

const answers = {
  'packet.encode': ({ type, body }) => ({ hex: hex(Package.encode(type, bytes(body))) }),
  'packet.decode': (question) => {
    // One packet comes back bare, several in an array.
    const packets = [Package.decode(bytes(question.hex))].flat()
    return { packets: packets.map(({ type, body }) => ({ type, body: hex(body) })) }
  },
  'message.encode': ({ kind, id, route, body }) => ({ hex: hex(Message.encode(id, kind, typeof route === 'number' ? 1 : 0, route, bytes(body))) }),
  'message.decode': (question) => {
    const { id, type, route, body } = Message.decode(bytes(question.hex))
    return { kind: type, id, route: route ?? '', body: hex(body) }
  },
}

for await (const line of createInterface({ input: process.stdin })) {
  let answer
  try {
    const question = JSON.parse(line)
    if (!answers[question.op]) throw new Error(`unknown op ${question.op}`)
    answer = answers[question.op](question)
  } catch (error) {
    answer = { error: String(error.message) }
  }
  process.stdout.write(JSON.stringify(answer) + '\n')
}
