// What the dashboard remembers between two answers of the node: what stood out, and the snapshots of its charts.
import assert from 'node:assert/strict'
import { test } from 'node:test'

import { names, steady, visible } from '../../src/admin/dashboard/dom.js'
import { alone, behind, lostMembers, outcome, Problems } from '../../src/admin/dashboard/problems.js'
import { Samples } from '../../src/admin/dashboard/samples.js'
import { Lasting, noteElsewhere } from '../../src/admin/dashboard/search.js'

const held = (age) => [{ key: 'room', age }]
const seen = (rows) => rows.map(({ key, ended, times, seen }) => [key, ended, times, seen])

test('what has ended stays for a minute, with its end', () => {
  const problems = new Problems()
  assert.deepEqual(seen(problems.take(held(1000), 0)), [['room', false, 1, 0]])
  assert.deepEqual(seen(problems.take([], 2000)), [['room', true, 1, 0]])
  assert.deepEqual(seen(problems.take([], 60_000)), [['room', true, 1, 0]])
  assert.deepEqual(problems.take([], 60_001), [])
})

test('tasks that block one after the other are one row that counts them', () => {
  const problems = new Problems()
  problems.take(held(1000), 0)
  problems.take([...held(3000), { key: 'late' }], 2000)
  assert.deepEqual(seen(problems.take(held(1500), 4000)), [['room', false, 2, 4000], ['late', true, 1, 2000]])
  problems.take([], 6000)
  assert.deepEqual(seen(problems.take(held(2000), 8000)), [['room', false, 3, 8000], ['late', true, 1, 2000]])
})

test('what was over before it was seen has a row for as long as the member knows of it', () => {
  const problems = new Problems()
  const over = (ago, times) => [{ key: 'room', ago, times, since: 1000 }]
  assert.deepEqual(seen(problems.take(over(9000, 1), 10_000)), [['room', true, 1, 1000]])
  assert.deepEqual(seen(problems.take([{ key: 'room', age: 1000, times: 3, since: 1000 }], 12_000)), [['room', false, 3, 12_000]])
  const [row] = problems.take(over(70_000, 3), 100_000)
  assert.deepEqual([row.ended, row.times, row.since, row.seen], [true, 3, 1000, 30_000])
  assert.deepEqual(problems.take([], 102_000), [])
})

test('a row stays where it is while the pointer is over its table', () => {
  const order = (isHeld, ...rows) => steady('sessions', rows, (row) => row, isHeld).join()
  assert.equal(order(false, 'a', 'b', 'c'), 'a,b,c')
  assert.equal(order(true, 'c', 'new', 'b', 'a'), 'a,b,c,new')
  assert.equal(order(true, 'new', 'c', 'a'), 'a,c,new')
  assert.equal(order(false, 'c', 'a', 'new'), 'c,a,new')
})

test('services that only a member has are known', () => {
  const members = [{ address: 'a', services: ['Arena', 'Chat'] }, { address: 'b', services: ['Arena'] }]
  assert.deepEqual([alone(members, 'a'), alone(members, 'b'), alone(members, 'gone')], [['Chat'], [], []])
})

test('quantiles and the longest of a window come from the buckets that grew', () => {
  const samples = new Samples()
  const of = (buckets) => ({ bounds: [1, 2, 4], samples: [{ name: 'times', labels: {}, value: { buckets } }] })
  samples.add(of([[2, 7]]), 0)
  assert.equal(samples.most('times', {}), undefined)
  samples.add(of([[0, 4], [1, 4], [2, 7]]), 1000)
  assert.deepEqual(samples.quantiles('times', {}, [0.5, 0.75, 1]), [1, 1.5, 2])
  assert.equal(samples.most('times', {}), 2)
  // Beyond all bounds.
  samples.add(of([[0, 4], [1, 4], [2, 7], [3, 1]]), 2000)
  assert.deepEqual([samples.most('times', {}), samples.quantiles('times', {}, [1])], [4, [4]])
})

test('what requests wait for stands before them', () => {
  const problems = new Problems()
  const rows = [{ key: 'a', title: 'requests unanswered' }, { key: 'b', title: 'handler blocks' }, { key: 'c', title: 'link broken' }]
  problems.take(rows.slice(0, 1), 0)
  assert.deepEqual(problems.take(rows, 2000).map(({ key }) => key), ['b', 'c', 'a'])
})

test('what a node or its peer that is gone had is not ended', () => {
  const member = (address, answers = true) => ({ address, summary: answers ? {} : null })
  const cluster = [member('a'), member('b'), member('mute', false)]
  const link = (address, peer) => outcome({ title: 'link broken', address, peer }, cluster)
  assert.equal(link('a', 'b'), 'ended')
  assert.equal(link('a', 'gone'), 'the peer is no member any more')
  assert.equal(link('gone', 'a'), 'the node is no member any more')
  assert.equal(link('mute', 'a'), 'not known any more')
  assert.equal(outcome({ title: 'no answer', address: 'gone' }, cluster), 'the node is no member any more')
  assert.equal(outcome({ title: 'no answer', address: 'a' }, cluster), 'ended')

  const problems = new Problems()
  problems.take(held(1000), 0)
  assert.equal(problems.take([], 2000, () => 'gone')[0].outcome, 'gone')
  assert.equal(problems.take(held(1000), 4000, () => 'gone')[0].outcome, undefined)
})

test('members with the same label differ in their names by their addresses', () => {
  const members = [{ label: 'gate', address: 'a:1' }, { label: 'gate', address: 'a:2' }, { label: 'room', address: 'a:3' }, { label: '', address: 'a:4' }, { label: '', address: 'a:5' }]
  const all = members.map(names(members))
  assert.deepEqual(all, ['gate (a:1)', 'gate (a:2)', 'room', 'a:4', 'a:5'])
  // A row has each address once.
  assert.deepEqual(members.map(({ address }, at) => behind(all[at], address)), [[], [], ['a:3'], [], []])
})

test('a lost member is listed once, by its latest eviction, until it is back', () => {
  const lost = (address, evicted_ms) => ({ address, label: '', evicted_ms })
  const masters = [{ address: 'a', summary: { lost: [lost('x', 3), lost('y', 2), lost('b', 1)] } }, { address: 'b', summary: { lost: [lost('x', 1)] } }, { address: 'old', summary: {} }]
  assert.deepEqual(lostMembers(masters), [lost('y', 2), lost('x', 3)])
})

const metrics = (messages) => ({ bounds: [], samples: [{ name: 'messages', labels: {}, value: messages }] })

test('a time without answers is a gap in a chart, and in no rate', () => {
  const samples = new Samples()
  for (const [at, messages] of [[0, 0], [2000, 20], [4000, 40], [64_000, 4000], [66_000, 4040]]) samples.add(metrics(messages), at)
  assert.deepEqual(samples.rates('messages'), [[2000, 10], [4000, 10], [64_000, undefined], [66_000, 20]])
})

test('a chart begins when the page is opened or the node restarts', () => {
  const samples = new Samples()
  const up = (seconds) => ({ bounds: [], samples: [{ name: 'nano_uptime_seconds', labels: {}, value: seconds }] })
  assert.equal(samples.begun, null)
  samples.add(up(100), 1000)
  samples.add(up(102), 3000)
  assert.deepEqual(samples.begun, { at: 1000, restarted: false })
  samples.add(up(1), 5000)
  samples.add(up(3), 7000)
  assert.deepEqual(samples.begun, { at: 5000, restarted: true })
})

test('names of others can neither control nor turn around the text of the page', () => {
  assert.equal(visible('a\u001b[2J\u009b\r\n\u202e<b>ü\u2066'), 'a\\u{1b}[2J\\u{9b}\\u{d}\\u{a}\\u{202e}<b>ü\\u{2066}')
  for (const text of ['plain “text”', 'שלום', '👩‍👩‍👧', 'a\u00a0b']) assert.equal(visible(text), text)
  assert.equal(visible(7), 7)
})

test('the cluster is asked once for each search, and again after a while', () => {
  const lasting = new Lasting(10_000)
  let asked = 0
  const get = (key, now) => lasting.get(key, now, () => ++asked)
  const [ann, again] = [{ term: 'Ann' }, { term: 'Ann' }]
  assert.deepEqual([0, 2000, 9999].map((now) => get(ann, now)), [1, 1, 1])
  assert.equal(get(ann, 10_000), 2)
  assert.equal(get(again, 10_001), 3)
  assert.equal(get(again, 12_000), 3)
})

test('a search for a user says what is not known of other gates', () => {
  const here = [{ id: 1 }]
  assert.equal(noteElsewhere(here, undefined), 'other gates have not answered yet')
  assert.equal(noteElsewhere(here, null), 'unknown whether on others: a gate does not answer')
  assert.equal(noteElsewhere(here, [{ gate: 'a', session: 1, here: true }]), '')
  assert.equal(noteElsewhere(here, [{ gate: 'b', session: 1, here: false }, { gate: 'b', session: 9, here: false }]), 'the user has session 9 at the gate b')
})
