// Snapshots of metrics over the last minutes: rates and quantiles of a window, from counts that only grow.

const KEPT = 150

/** Snapshots that are further apart than this, in milliseconds, have a gap between them: nothing is known of that time. */
const GAP = 10_000

/** The snapshots, oldest first. */
export class Samples {
  #snapshots = []
  #begun = null

  /** Takes an answer of `/api/v1/metrics` that arrived at `at`, in milliseconds. */
  add({ bounds, samples }, at) {
    const values = new Map(samples.map((sample) => [key(sample.name, sample.labels), sample]))
    // Counts that shrink are those of another run of the node.
    const before = this.#snapshots.at(-1)?.values.get('nano_uptime_seconds{}')?.value
    const restarted = before > values.get('nano_uptime_seconds{}')?.value
    if (restarted) this.#snapshots = []
    if (restarted || !this.#begun) this.#begun = { at, restarted }
    this.#snapshots.push({ at, values, bounds })
    if (this.#snapshots.length > KEPT) this.#snapshots.shift()
  }

  /** When the oldest snapshot that could be kept was taken, and whether a restart of the node was the reason: `{ at, restarted }`. */
  get begun() {
    return this.#begun
  }

  get length() {
    return this.#snapshots.length
  }

  /** The value of a gauge or counter now. */
  value(name, labels = {}) {
    return this.#snapshots.at(-1)?.values.get(key(name, labels))?.value
  }

  /** Every series with this name now. */
  series(name) {
    return [...(this.#snapshots.at(-1)?.values.values() ?? [])].filter((sample) => sample.name === name)
  }

  /** The growth of a counter per second over the last `seconds`. */
  rate(name, labels = {}, seconds = 10) {
    const [from, to] = this.#window(seconds)
    return from ? perSecond(from, to, key(name, labels)) : undefined
  }

  /** The quantiles of a histogram over the last `seconds`, in seconds; undefined without samples. */
  quantiles(name, labels, shares, seconds = 60) {
    const [from, to] = this.#window(seconds)
    return from ? quantiles(from, to, [key(name, labels)], shares) : undefined
  }

  /** What no value of a histogram in the last `seconds` exceeds, exact to a fifth; undefined without samples. */
  most(name, labels, seconds = 60) {
    const [from, to] = this.#window(seconds)
    const last = from ? counts(from, to, [key(name, labels)]).findLastIndex((count) => count > 0) : -1
    return last < 0 ? undefined : to.bounds[Math.min(last, to.bounds.length - 1)]
  }

  /** A rate for each snapshot, `[time, value]`, for a chart; undefined after a gap. Without labels, of all series with this name. */
  rates(name) {
    const ids = this.series(name).map(({ labels }) => key(name, labels))
    return this.#pairs((from, to) => ids.reduce((sum, id) => sum + (perSecond(from, to, id) ?? 0), 0))
  }

  /** A quantile for each snapshot, over all series with this name: of the ten seconds before it. */
  quantileSeries(name, share) {
    const ids = this.series(name).map(({ labels }) => key(name, labels))
    return this.#pairs((from, to) => quantiles(from, to, ids, [share])?.[0], 5)
  }

  #pairs(value, back = 1) {
    const points = []
    for (let index = 1; index < this.#snapshots.length; index++) {
      const to = this.#snapshots[index]
      let first = index
      while (first > 0 && index - first < back && !this.#gapBefore(first)) first--
      points.push([to.at, first < index ? value(this.#snapshots[first], to) : undefined])
    }
    return points
  }

  #gapBefore(index) {
    return this.#snapshots[index].at - this.#snapshots[index - 1].at > GAP
  }

  #window(seconds) {
    const to = this.#snapshots.at(-1)
    const from = this.#snapshots.find((snapshot) => snapshot !== to && snapshot.at >= to.at - seconds * 1000)
    return [from, to]
  }
}

function key(name, labels) {
  const sorted = Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1))
  return `${name}{${sorted.map(([label, value]) => `${label}=${value}`).join()}}`
}

function perSecond(from, to, id) {
  const after = to.values.get(id)?.value
  if (after === undefined) return undefined
  return Math.max(0, after - (from.values.get(id)?.value ?? 0)) / ((to.at - from.at) / 1000)
}

/** The samples in each bucket between two snapshots, of several histograms together. */
function counts(from, to, ids) {
  const all = new Array(to.bounds.length + 1).fill(0)
  const add = (snapshot, id, sign) => {
    for (const [index, count] of snapshot?.values.get(id)?.value.buckets ?? []) all[index] += sign * count
  }
  for (const id of ids) {
    add(to, id, 1)
    add(from, id, -1)
  }
  return all
}

function quantiles(from, to, ids, shares) {
  const all = counts(from, to, ids)
  const total = all.reduce((sum, count) => sum + count, 0)
  if (total <= 0) return undefined
  return shares.map((share) => {
    const rank = share * total
    let below = 0
    const index = all.findIndex((count) => (below += count) >= rank)
    const high = to.bounds[index]
    // The last bucket has no end.
    if (high === undefined) return to.bounds.at(-1)
    const low = index ? to.bounds[index - 1] : 0
    return low + (high - low) * ((rank - (below - all[index])) / Math.max(1, all[index]))
  })
}
