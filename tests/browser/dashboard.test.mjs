// What the dashboard remembers between two answers of the node: what stood out, and the snapshots of its charts.
import assert from 'node:assert/strict'
import { test } from 'node:test'

import { Problems } from '../../src/admin/dashboard/problems.js'
import { Samples } from '../../src/admin/dashboard/samples.js'

const held = (age) => [{ key: 'room', age }]
const seen = (rows) => rows.map(({ key, ended, times, seen }) => [key, ended, times, seen])

test('what has ended stays for half a minute, with its end', () => {
  const problems = new Problems()
  assert.deepEqual(seen(problems.take(held(1000), 0)), [['room', false, 1, 0]])
  assert.deepEqual(seen(problems.take([], 2000)), [['room', true, 1, 0]])
  assert.deepEqual(seen(problems.take([], 30_000)), [['room', true, 1, 0]])
  assert.deepEqual(problems.take([], 30_001), [])
})

test('tasks that block one after the other are one row that counts them', () => {
  const problems = new Problems()
  problems.take(held(1000), 0)
  problems.take([...held(3000), { key: 'late' }], 2000)
  assert.deepEqual(seen(problems.take(held(1500), 4000)), [['room', false, 2, 4000], ['late', true, 1, 2000]])
  problems.take([], 6000)
  assert.deepEqual(seen(problems.take(held(2000), 8000)), [['room', false, 3, 8000], ['late', true, 1, 2000]])
})

const metrics = (messages) => ({ bounds: [], samples: [{ name: 'messages', labels: {}, value: messages }] })

test('a time without answers is a gap in a chart, and in no rate', () => {
  const samples = new Samples()
  for (const [at, messages] of [[0, 0], [2000, 20], [4000, 40], [64_000, 4000], [66_000, 4040]]) samples.add(metrics(messages), at)
  assert.deepEqual(samples.rates('messages'), [[2000, 10], [4000, 10], [64_000, undefined], [66_000, 20]])
})
