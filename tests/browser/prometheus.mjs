// A real Prometheus scrapes a master, a gate and a backend, in both formats, and promtool finds no fault in what they say.
// usage: node prometheus.mjs target/debug/examples/peer
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'

const DEADLINE = 60_000
const [program] = process.argv.slice(2)
const children = []

async function start(...flags) {
  const child = spawn(program, ['--listen', '127.0.0.1:0', '--admin', '127.0.0.1:0', ...flags], { stdio: ['ignore', 'pipe', 'ignore'] })
  children.push(child)
  const addresses = {}
  for await (const line of createInterface({ input: child.stdout })) {
    const [kind, address] = line.split(/ (?=\S*$)/)
    addresses[kind] = address
    if (kind === 'serving operators at') return addresses
  }
  throw new Error('a node has ended')
}

async function freePort() {
  const server = net.createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  return port
}

/** The value of an expression, or null. */
async function query(prometheus, expression) {
  const answer = await fetch(`http://${prometheus}/api/v1/query?query=${encodeURIComponent(expression)}`).catch(() => null)
  const json = await answer?.json().catch(() => null)
  return json?.data?.result?.[0]?.value?.[1] ?? null
}

async function eventually(what, value, expected) {
  for (const end = Date.now() + DEADLINE; ; await sleep(200)) {
    const found = await value()
    if (found === expected) return
    assert(Date.now() < end, `${what}: ${found} instead of ${expected}`)
  }
}

const directory = await mkdtemp(join(tmpdir(), 'nano-prometheus-'))
try {
  const master = await start('--is-master', '--services', '')
  const joining = ['--master', master['serving nodes at']]
  const nodes = [master, await start(...joining, '--services', 'Echo'), await start(...joining, '--services', '', '--client', '127.0.0.1:0')]
  const targets = nodes.map((node) => node['serving operators at'])
  for (const target of targets) {
    const text = await (await fetch(`http://${target}/metrics`)).text()
    const checked = spawnSync('promtool', ['check', 'metrics'], { input: text, encoding: 'utf8' })
    assert.equal(checked.status, 0, checked.stderr)
    assert.equal(checked.stderr, '')
  }
  const port = await freePort()
  const config = {
    global: { scrape_interval: '500ms' },
    scrape_configs: [{ job_name: 'nano', static_configs: [{ targets }] }],
  }
  const file = join(directory, 'prometheus.yml')
  // YAML reads JSON.
  await writeFile(file, JSON.stringify(config))
  const flags = [`--config.file=${file}`, `--storage.tsdb.path=${join(directory, 'data')}`, `--web.listen-address=127.0.0.1:${port}`]
  children.push(spawn('prometheus', flags, { stdio: 'ignore' }))
  const prometheus = `127.0.0.1:${port}`
  await eventually('targets that are up', () => query(prometheus, 'sum(up{job="nano"})'), '3')
  await eventually('nodes that are ready', () => query(prometheus, 'sum(nano_ready)'), '3')
  await eventually('members that each node sees', () => query(prometheus, 'min(nano_cluster_members)'), '2')
  await eventually('series of histograms', () => query(prometheus, 'count(nano_scheduler_turn_seconds_count)'), '3')
  const metadata = await (await fetch(`http://${prometheus}/api/v1/metadata?metric=nano_message_queue_seconds`)).json()
  assert.equal(metadata.data.nano_message_queue_seconds[0].type, 'histogram')
  console.log('ok')
} finally {
  const ended = children.map((child) => (child.exitCode === null ? once(child, 'exit') : null))
  children.forEach((child) => child.kill('SIGKILL'))
  await Promise.all(ended)
  await rm(directory, { recursive: true, force: true })
}
