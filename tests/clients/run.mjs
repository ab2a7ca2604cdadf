// Runs every client against a peer of its own on a port the system chooses, without a dictionary and with one. They run at the same time,
// for most of what they do is to wait for heartbeats. The result is the exit code.
// usage: node run.mjs <peer program> <python with the packages of python/requirements.txt>
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const [peer, python] = process.argv.slice(2)
if (!python) {
  console.error('usage: node run.mjs <peer program> <python>')
  process.exit(2)
}
const here = fileURLToPath(new URL('.', import.meta.url))
const requests = 'Echo.Echo=1,T.Typed=2,Grp.Join=300'
const pushes = `${requests},onEcho=4,onBroadcast=65535`

const node = (script) => [process.execPath, join(here, script)]
const py = (script) => [python, join(here, 'python', script)]
// Not all clients know the dictionary as nano sends it; those ignore it, so that no push may be in it.
const clients = [
  { ws: true, dicts: ['', pushes], program: node('nanojs.mjs') },
  { ws: true, dicts: ['', pushes], program: node('nodejs.mjs') },
  { ws: true, dicts: ['', pushes], program: node('jsclient.mjs') },
  { ws: true, dicts: ['', pushes], program: node('clientwebsocket.mjs') },
  { ws: true, dicts: ['', pushes], program: py('websockets_client.py') },
  { ws: true, dicts: ['', pushes], program: py('aiohttp_client.py') },
  { ws: false, dicts: ['', requests], program: py('pypomelo_client.py') },
  { ws: false, dicts: ['', requests], program: node('libpomelo2.mjs') },
  { ws: false, dicts: ['', pushes], program: node('pitaya.mjs') },
]
const connector = goConnector()
if (connector) clients.push({ ws: false, dicts: ['', requests], program: [connector] })
else console.log("skipped: Go nano's connector, github.com/lonng/nano at dbf22c7 cannot be downloaded here")

const runs = clients.flatMap(({ ws, dicts, program }) => dicts.map((dict) => run(program, ws, dict)))
const failed = (await Promise.all(runs)).filter((passed) => !passed).length
console.log(`${runs.length - failed} passed, ${failed} failed`)
process.exitCode = failed ? 1 : 0

/** Runs a client against a peer of its own. True if it passed; its output, and after a failure the peer's, goes to the console. */
async function run([program, ...args], ws, dict) {
  const flags = ['--listen', '127.0.0.1:0', '--hb', '1s', '--dict', dict, ...(ws ? ['--ws'] : [])]
  // Backtraces of a debug build take seconds, and T.Panic panics in all peers at once.
  const server = spawn(peer, flags, { env: { ...process.env, RUST_BACKTRACE: '0' } })
  const log = collect(server.stderr)
  const [line] = await Promise.race([once(createInterface(server.stdout), 'line'), once(server, 'exit').then(() => ['no line:0'])])
  const client = spawn(program, [...args, line.split(':').at(-1)])
  const output = collect(client.stdout, client.stderr)
  const late = setTimeout(() => client.kill('SIGKILL'), 90_000)
  const [code] = await once(client, 'close')
  clearTimeout(late)
  server.kill()
  console.log(`${output().trimEnd()}${dict ? ', with a dictionary' : ''}`)
  if (code !== 0) console.log(`FAILED: ${[program, ...args].join(' ')} exited with ${code}; the peer says:\n${log()}`)
  return code === 0
}

function collect(...streams) {
  let text = ''
  for (const stream of streams) stream.on('data', (bytes) => (text += bytes))
  return () => text
}

/** The program, or null where its module cannot be had. */
function goConnector() {
  const go = (...args) => spawnSync('go', args, { cwd: join(here, 'go'), encoding: 'utf8' })
  if (go('mod', 'download').status !== 0) return null
  const program = join(here, 'node_modules', '.bin', 'go-nano-connector')
  const built = go('build', '-buildvcs=false', '-o', program, '.')
  if (built.status !== 0) throw new Error(`Go nano's connector does not compile:\n${built.stderr}`)
  return program
}
