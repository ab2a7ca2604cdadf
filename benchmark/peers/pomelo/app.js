// The servers of the benchmark on pomelo: the services that its comparison asks for.
// usage: node app.js master|standalone|gate|backend <port of the master> [id]
// Prints where its clients connect, or that it is ready.
'use strict'

const net = require('net')
const pomelo = require('pomelo')
const TcpSocket = require('pomelo/lib/connectors/hybrid/tcpsocket')

// pomelo passes options as the encoding, which Node refuses; without this no TCP client gets an answer.
TcpSocket.prototype.send = function (message, _options, sent) {
  this._socket.write(message, sent)
}

const [role, master, id = role] = process.argv.slice(2)
const hasClients = role === 'standalone' || role === 'gate'
start().catch((error) => {
  console.error(error)
  process.exit(1)
})

async function start() {
  const [port, clientPort] = await Promise.all([freePort(), freePort()])
  // pomelo reads what a server is from the command line.
  process.argv.splice(2)
  process.argv.push('env=production', 'type=master')
  if (role !== 'master') {
    process.argv.push(`id=${id}`, `serverType=${hasClients ? 'gate' : 'game'}`, 'host=127.0.0.1', `port=${port}`)
  }
  if (hasClients) process.argv.push('frontend=true', 'clientHost=127.0.0.1', `clientPort=${clientPort}`)

  const app = pomelo.createApp()
  app.getMaster().port = Number(master)
  app.set('connectorConfig', {
    connector: pomelo.connectors.hybridconnector,
    heartbeat: 30,
    setNoDelay: true,
  })
  app.start((error) => {
    if (error) throw error
    announce(app, clientPort)
  })
}

function announce(app, clientPort) {
  if (!hasClients) return console.log('ready')
  if (role === 'gate' && app.getServersByType('game').length === 0) {
    return setTimeout(announce, 20, app, clientPort)
  }
  console.log(`listening on 127.0.0.1:${clientPort}`)
}

function freePort() {
  return new Promise((resolve, reject) => {
    const server = net.createServer()
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address()
      server.close(() => resolve(port))
    })
  })
}
