// Starts the recorded peer, the server that has a handler for everything, for tests under Node.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const PROGRAM = process.env.PEER ?? fileURLToPath(new URL('../../target/debug/examples/peer', import.meta.url))

/** A peer with a WebSocket at `/nano`, on a port of its own unless one is given. `stop` ends it, `kill` at once. */
export async function startPeer(flags, port = 0) {
  assert(existsSync(PROGRAM), `${PROGRAM} is missing: run "cargo build --examples", or set PEER to the program`)
  const peer = spawn(PROGRAM, ['--listen', `127.0.0.1:${port}`, '--ws', ...flags], { stdio: ['ignore', 'pipe', 'inherit'] })
  const ended = new Promise((resolve) => peer.once('exit', resolve))
  const line = await Promise.race([new Promise((resolve) => createInterface(peer.stdout).once('line', resolve)), ended.then((code) => `exited with ${code}`)])
  const bound = Number(/^listening on .*:(\d+)$/.exec(line)?.[1])
  assert(bound, `the peer says: ${line}`)
  const end = (signal) => (peer.kill(signal), ended)
  return { port: bound, stop: () => end('SIGTERM'), kill: () => end('SIGKILL') }
}
