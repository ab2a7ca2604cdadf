// Starts the recorded peer, the server that has a handler for everything, for tests under Node.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const PROGRAM = process.env.PEER ?? fileURLToPath(new URL('../../target/debug/examples/peer', import.meta.url))

/**
 * A peer with a WebSocket at `/nano`, on a port of its own unless one is given; of a cluster, `nodes` is where its members connect. `stop`
 * ends it, `kill` at once.
 */
export async function startPeer(flags, port = 0) {
  assert(existsSync(PROGRAM), `${PROGRAM} is missing: run "cargo build --examples", or set PEER to the program`)
  const peer = spawn(PROGRAM, ['--listen', `127.0.0.1:${port}`, '--ws', ...flags], { stdio: ['ignore', 'pipe', 'inherit'] })
  const ended = new Promise((resolve) => peer.once('exit', resolve))
  const lines = createInterface(peer.stdout)[Symbol.asyncIterator]()
  const address = async (before) => {
    const line = await Promise.race([lines.next().then(({ value }) => value), ended.then((code) => `exited with ${code}`)])
    assert(line?.startsWith(before), `the peer says: ${line}`)
    return line.slice(before.length)
  }
  const bound = Number((await address('listening on ')).split(':').at(-1))
  const nodes = flags.includes('--client') ? await address('serving nodes at ') : null
  const end = (signal) => (peer.kill(signal), ended)
  return { port: bound, nodes, stop: () => end('SIGTERM'), kill: () => end('SIGKILL') }
}
