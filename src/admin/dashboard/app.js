// The dashboard of one node: asks the API every two seconds while the page is seen.
import * as actions from './actions.js'
import { ask, keep, openBeside, token } from './api.js'
import { clock, show, watchPointer } from './dom.js'
import { problems } from './problems.js'
import { Samples } from './samples.js'
import * as search from './search.js'
import * as views from './views.js'

const INTERVAL = 2000
/** After this long without an answer the page says that its values are old. */
const LATE = 5000

const samples = new Samples()
let schedulers = null
/** When the values on the page were read. */
let readAt = null
let refusal = null

const byId = (id) => document.getElementById(id)

async function update() {
  const begun = performance.now()
  const [node, members, metrics, now, cluster] = await Promise.all([ask('node'), ask('members'), ask('metrics'), ask('schedulers?limit=50'), ask('cluster')])
  Object.assign(actions.known, { node, members: members.members })
  const at = Date.now()
  samples.add(metrics, at)
  views.header(node)
  views.tiles(node, samples, now)
  views.charts(node, samples)
  problems(cluster.members, members.members, actions.inspect)
  views.members(members.members, cluster.members)
  views.schedulers(now, schedulers, schedulers ? (at - schedulers.at) / 1000 : 0)
  schedulers = { ...now, at }
  views.routes(samples, now.schedulers)
  views.forwarded(samples)
  const [warnings] = await Promise.all([node.actions.warnings ? ask('warnings') : null, search.list(node.sessions)])
  views.warnings(warnings)
  fresh()
  show('updated', `updated ${clock(readAt)}, in ${Math.round(performance.now() - begun)} ms`)
}

function fresh() {
  readAt = Date.now()
  refusal = null
  byId('problem').hidden = true
  byId('drain').hidden = !token() || !actions.known.node.actions.token
  byId('main').hidden = false
  document.body.classList.remove('stale')
}

/** Says why the page is not up to date, and since when. */
function stale(text, state) {
  byId('problem').hidden = false
  byId('problem').textContent = readAt ? `${text} What is below is of ${clock(readAt)}.` : text
  byId('state').className = 'badge bad'
  byId('state').textContent = state
  document.body.classList.add('stale')
}

function failed(problem) {
  if (problem.status === 401) {
    if (problem.given && problem.given === token()) {
      keep(null)
      byId('drain').hidden = true
      refusal = 'This node has refused the token of this tab.'
      actions.fail(`${refusal} It is forgotten.`)
    }
    return stale(`${refusal ?? problem.message} Press Token to give it.`, 'token needed')
  }
  if (problem.status === 403) return stale(problem.message, 'refused')
  stale(`This node does not answer: ${problem.message}.`, 'no answer')
}

async function run() {
  for (;;) {
    if (!document.hidden) {
      const late = setTimeout(() => stale('This node does not answer.', 'no answer'), LATE)
      await update().catch(failed)
      clearTimeout(late)
    }
    await new Promise((resolve) => setTimeout(resolve, INTERVAL))
  }
}

actions.start(() => update().catch(failed))
search.start(failed)
watchPointer()
for (const page of document.querySelectorAll('footer a')) {
  page.addEventListener('click', (event) => {
    event.preventDefault()
    openBeside(page.getAttribute('href')).catch((problem) => actions.fail(problem.message))
  })
}
run()
