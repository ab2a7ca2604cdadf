// The services of deploy/compose.yaml as processes, with the commands, configurations and variables they have there: players
// at both gates, and a real Prometheus with the configuration and the rules that it has there.
// usage: node compose.mjs target/debug/examples/peer
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

import { WebSocket } from 'ws'
import { parse } from 'yaml'

import { connect } from '../../examples/web/nano.js'

const DEADLINE = 60_000
const SECRETS = { NANO_CLUSTER_TOKEN: 'swordfish', NANO_ADMIN_TOKEN: 'tuna' }
const headers = { authorization: `Bearer ${SECRETS.NANO_ADMIN_TOKEN}` }
const [program] = process.argv.slice(2)
const deploy = (name) => fileURLToPath(new URL(`../../deploy/${name}`, import.meta.url))
const read = async (name) => parse(await readFile(deploy(name), 'utf8'), { merge: true })
const children = []

async function freePort() {
  const server = net.createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  return port
}

/** Where a container's path is on this machine. */
function mounted(service, path) {
  for (const volume of service.volumes) {
    const [here, there] = volume.split(':')
    if (path === there) return deploy(here)
  }
  return path
}

/** Starts a service. What differs are addresses: there is one machine, and no resolver that knows the services. */
async function start(name, service, nodes) {
  const command = (service.command ?? ['--config', '/etc/nano/node.toml']).map((word) => mounted(service, word))
  const env = { PATH: process.env.PATH }
  for (const [key, value] of Object.entries(service.environment)) {
    env[key] = value.replace(/\$\{(\w+):\?[^}]*\}/g, (_, variable) => SECRETS[variable])
  }
  const advertised = (address) => address.replace(/^(\w+):34580$/, (_, host) => `127.0.0.1:${nodes[host]}`)
  assert.equal(env.NANO_CLUSTER_ADVERTISE, `${name}:34580`)
  env.NANO_CLUSTER_ADVERTISE = advertised(env.NANO_CLUSTER_ADVERTISE)
  env.NANO_CLUSTER_LISTEN = env.NANO_CLUSTER_ADVERTISE
  env.NANO_ADMIN_ADDRESS = '127.0.0.1:0'
  if (name !== 'master') env.NANO_CLUSTER_JOIN = advertised('master:34580')
  if (service.ports?.some((port) => port.endsWith(':3250'))) env.NANO_LISTENERS_0_ADDRESS = '127.0.0.1:0'
  const child = spawn(program, command, { env, stdio: ['ignore', 'pipe', 'ignore'] })
  children.push(child)
  const addresses = {}
  for await (const line of createInterface({ input: child.stdout })) {
    const [kind, address] = line.split(/ (?=\S*$)/)
    addresses[kind] = address
    if (kind === 'serving operators at') return addresses
  }
  throw new Error(`${name} has ended`)
}

/** The results of an expression, or null. */
async function query(prometheus, expression) {
  const answer = await fetch(`http://${prometheus}/api/v1/query?query=${encodeURIComponent(expression)}`).catch(() => null)
  const json = await answer?.json().catch(() => null)
  return json?.data?.result ?? null
}

async function eventually(what, value, expected) {
  for (const end = Date.now() + DEADLINE; ; await sleep(200)) {
    const found = await value()
    if (found === expected) return
    assert(Date.now() < end, `${what}: ${found} instead of ${expected}`)
  }
}

/** The flags of a Prometheus with the configuration of the compose file, which scrapes these addresses more often. */
async function prometheusFlags(directory, services, operators, listen) {
  const config = await read('prometheus/prometheus.yml')
  config.global.scrape_interval = '500ms'
  config.global.evaluation_interval = '500ms'
  config.rule_files = config.rule_files.map((file) => deploy(`prometheus/${file}`))
  const [job] = config.scrape_configs
  const secret = services.prometheus.configs.find((it) => it.target === job.authorization.credentials_file)
  assert.equal(secret?.source, 'admin_token')
  job.authorization.credentials_file = join(directory, 'token')
  const [scraped] = job.static_configs
  assert.deepEqual([...scraped.targets].sort(), Object.keys(operators).map((name) => `${name}:9470`).sort())
  scraped.targets = scraped.targets.map((target) => operators[target.split(':')[0]])
  await writeFile(join(directory, 'token'), SECRETS.NANO_ADMIN_TOKEN)
  const file = join(directory, 'prometheus.yml')
  // YAML reads JSON.
  await writeFile(file, JSON.stringify(config))
  return [`--config.file=${file}`, `--storage.tsdb.path=${join(directory, 'data')}`, `--web.listen-address=${listen}`]
}

const directory = await mkdtemp(join(tmpdir(), 'nano-compose-'))
try {
  const { services } = await read('compose.yaml')
  const names = Object.keys(services).filter((name) => services[name].environment?.NANO_CLUSTER_TOKEN)
  assert.deepEqual([...names].sort(), ['backend1', 'backend2', 'gate1', 'gate2', 'master'])
  const nodes = {}
  for (const name of names) nodes[name] = await freePort()
  const started = {}
  // As Compose does: after what it depends on.
  for (const name of names.toSorted((one, other) => (services[one].depends_on ?? []).length - (services[other].depends_on ?? []).length)) {
    started[name] = await start(name, services[name], nodes)
  }
  const operators = Object.fromEntries(names.map((name) => [name, started[name]['serving operators at']]))
  const port = await freePort()
  const prometheus = `127.0.0.1:${port}`
  children.push(spawn('prometheus', await prometheusFlags(directory, services, operators, prometheus), { stdio: 'ignore' }))
  const value = async (expression) => (await query(prometheus, expression))?.[0]?.value?.[1] ?? null
  await eventually('targets that are up', () => value('sum(up{job="nano"})'), '5')
  await eventually('nodes that are ready', () => value('sum(nano_ready)'), '5')
  await eventually('members that each node sees', () => value('min(nano_cluster_members)'), '4')

  for (const gate of ['gate1', 'gate2']) {
    const client = await connect(`ws://${started[gate]['listening on']}/nano`, { WebSocket })
    assert.deepEqual(await client.request('Echo.Echo', { content: gate }), { content: gate })
    client.close()
  }

  for (const target of Object.values(operators)) {
    const refused = await fetch(`http://${target}/metrics`, { headers: { authorization: 'Bearer cod' } })
    assert.equal(refused.status, 401)
    const text = await (await fetch(`http://${target}/metrics`, { headers })).text()
    const checked = spawnSync('promtool', ['check', 'metrics'], { input: text, encoding: 'utf8' })
    assert.equal(checked.status, 0, checked.stderr)
    assert.equal(checked.stderr, '')
  }
  await eventually('series of histograms', () => value('count(nano_scheduler_turn_seconds_count)'), '5')
  const metadata = await (await fetch(`http://${prometheus}/api/v1/metadata?metric=nano_message_queue_seconds`)).json()
  assert.equal(metadata.data.nano_message_queue_seconds[0].type, 'histogram')

  // Each panel of the board shows something of a cluster where two players have asked one thing, except of what has not happened.
  const board = await read('grafana/board.json')
  const expressions = board.panels.flatMap(({ title, targets }) => (targets ?? []).map(({ expr }) => [title, expr]))
  assert(expressions.length > 20)
  const happened = ([, expression]) => !/(refused|dropped|evicted|migrations)_total/.test(expression)
  for (const [title, expression] of expressions.filter(happened)) {
    await eventually(`series of the panel "${title}"`, async () => ((await query(prometheus, expression)) ?? []).length > 0, true)
  }
  const rules = await (await fetch(`http://${prometheus}/api/v1/rules?type=alert`)).json()
  const alerts = rules.data.groups.flatMap((group) => group.rules)
  assert(alerts.length > 10)
  assert.deepEqual(alerts.filter(({ health }) => health !== 'ok').map(({ name, lastError }) => [name, lastError]), [])
  assert.deepEqual(alerts.filter(({ state }) => state === 'firing').map(({ name }) => name), [])
  console.log('ok')
} finally {
  const ended = children.map((child) => (child.exitCode === null ? once(child, 'exit') : null))
  children.forEach((child) => child.kill('SIGKILL'))
  await Promise.all(ended)
  await rm(directory, { recursive: true, force: true })
}
