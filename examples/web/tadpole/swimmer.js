// One tadpole: how it moves, and how it looks.

const SEGMENTS = 14
const TOP_SPEED = 240
const BUBBLE_LIFE = 7
const BUBBLE_FADE = 1.5
const BUBBLE_WIDTH = 190

export class Swimmer {
  x = 0
  y = 0
  /** Radians, 0 to the right. */
  angle = 0
  /** From 0, at rest, to 1, as fast as it goes. */
  momentum = 0
  bubbles = []
  /** Its place is unknown before its first update. */
  placed = false

  #stroke = Math.random() * 6
  #tail = []
  #target = null

  constructor(id, name) {
    this.id = id
    this.name = name
    this.hue = Math.round(id * 137.508) % 360
  }

  place(x, y, angle) {
    Object.assign(this, { x, y, angle, placed: true })
    const behind = (index) => ({ x: x - Math.cos(angle) * index * 4, y: y - Math.sin(angle) * index * 4 })
    this.#tail = Array.from({ length: SEGMENTS }, (_, index) => behind(index))
  }

  /** Moved by an update: it glides there instead of jumping. */
  follow({ x, y, angle, momentum }) {
    if (!this.placed || Math.hypot(x - this.x, y - this.y) > 600) this.place(x, y, angle)
    this.#target = { x, y, angle }
    this.momentum = Math.min(1, Math.max(0, momentum))
  }

  /** Our own: `turn` from -1 to 1, `thrust` from 0 to 1. */
  steer(seconds, turn, thrust) {
    this.angle += turn * 3.4 * seconds
    const wanted = Math.min(1, Math.max(0, thrust))
    this.momentum += (wanted - this.momentum) * Math.min(1, seconds * (wanted > this.momentum ? 3 : 1.2))
  }

  say(text) {
    this.bubbles.push({ text, age: 0 })
    if (this.bubbles.length > 3) this.bubbles.shift()
  }

  advance(seconds) {
    const step = this.momentum * TOP_SPEED * seconds
    if (this.#target) {
      const goal = this.#target
      goal.x += Math.cos(goal.angle) * step
      goal.y += Math.sin(goal.angle) * step
      const pull = 1 - Math.exp(-8 * seconds)
      this.x += (goal.x - this.x) * pull
      this.y += (goal.y - this.y) * pull
      this.angle += turnTo(this.angle, goal.angle) * pull
    } else {
      this.x += Math.cos(this.angle) * step
      this.y += Math.sin(this.angle) * step
    }
    this.#stroke += seconds * (4 + 14 * this.momentum)
    this.#trail()
    for (const bubble of this.bubbles) bubble.age += seconds
    this.bubbles = this.bubbles.filter(({ age }) => age < BUBBLE_LIFE)
  }

  /** Each point of the tail keeps its distance to the one before it, so that the tail bends into the curve that was swum. */
  #trail() {
    if (!this.#tail.length) return
    this.#tail[0] = { x: this.x - Math.cos(this.angle) * 8, y: this.y - Math.sin(this.angle) * 8 }
    for (let index = 1; index < SEGMENTS; index++) {
      const [ahead, point] = [this.#tail[index - 1], this.#tail[index]]
      const away = Math.atan2(point.y - ahead.y, point.x - ahead.x)
      point.x = ahead.x + Math.cos(away) * 4
      point.y = ahead.y + Math.sin(away) * 4
    }
  }

  draw(ink, own) {
    const { hue } = this
    glow(ink, this.x, this.y, 70, `hsl(${hue} 80% 65% / ${own ? 0.28 : 0.16})`)
    this.#drawTail(ink)
    ink.save()
    ink.translate(this.x, this.y)
    ink.rotate(this.angle)
    const skin = ink.createRadialGradient(4, -5, 1, 0, 0, 15)
    skin.addColorStop(0, `hsl(${hue} 85% 84%)`)
    skin.addColorStop(0.6, `hsl(${hue} 65% 62%)`)
    skin.addColorStop(1, `hsl(${hue} 60% 46%)`)
    ink.fillStyle = skin
    ink.beginPath()
    ink.ellipse(0, 0, 15, 12, 0, 0, 2 * Math.PI)
    ink.fill()
    for (const side of [-1, 1]) {
      disc(ink, 7.5, 5.5 * side, 3.6, '#fff')
      disc(ink, 8.6, 5.5 * side, 1.9, '#0a2530')
    }
    ink.restore()
  }

  #drawTail(ink) {
    const [left, right] = [[], []]
    for (const [index, point] of this.#tail.entries()) {
      const along = index / (SEGMENTS - 1)
      const ahead = this.#tail[Math.max(0, index - 1)]
      const heading = index ? Math.atan2(ahead.y - point.y, ahead.x - point.x) : this.angle
      const swing = Math.sin(this.#stroke - along * 5) * along * (2.5 + 8 * this.momentum)
      const width = 7.5 * (1 - along) ** 0.8 + 0.4
      const [across, over] = [-Math.sin(heading), Math.cos(heading)]
      left.push([point.x + across * (swing + width), point.y + over * (swing + width)])
      right.unshift([point.x + across * (swing - width), point.y + over * (swing - width)])
    }
    ink.fillStyle = `hsl(${this.hue} 62% 56% / 0.85)`
    ink.beginPath()
    for (const [x, y] of [...left, ...right]) ink.lineTo(x, y)
    ink.fill()
  }

  /** Name and bubbles, in a pass of their own: words lie over every body. */
  drawWords(ink) {
    ink.textAlign = 'center'
    ink.textBaseline = 'middle'
    ink.font = '600 13px system-ui, sans-serif'
    ink.fillStyle = 'rgb(232 246 243 / 0.8)'
    ink.fillText(this.name, this.x, this.y + 38)
    ink.font = '14px system-ui, sans-serif'
    let bottom = this.y - 30
    for (const { text, age } of [...this.bubbles].reverse()) {
      ink.globalAlpha = Math.min(1, age * 6, (BUBBLE_LIFE - age) / BUBBLE_FADE)
      bottom = drawBubble(ink, text, this.x, bottom) - 6
    }
    ink.globalAlpha = 1
  }
}

/** The shortest turn from one angle to another, between -π and π. */
export function turnTo(from, to) {
  return Math.atan2(Math.sin(to - from), Math.cos(to - from))
}

export function glow(ink, x, y, radius, colour) {
  const light = ink.createRadialGradient(x, y, 0, x, y, radius)
  light.addColorStop(0, colour)
  light.addColorStop(1, 'transparent')
  ink.fillStyle = light
  ink.fillRect(x - radius, y - radius, 2 * radius, 2 * radius)
}

function disc(ink, x, y, radius, colour) {
  ink.fillStyle = colour
  ink.beginPath()
  ink.arc(x, y, radius, 0, 2 * Math.PI)
  ink.fill()
}

function drawBubble(ink, text, x, bottom) {
  const lines = wrap(ink, text)
  const width = Math.max(...lines.map((line) => ink.measureText(line).width)) + 24
  const height = lines.length * 18 + 12
  ink.fillStyle = 'rgb(240 252 249 / 0.94)'
  ink.beginPath()
  ink.roundRect(x - width / 2, bottom - height, width, height, 13)
  ink.fill()
  ink.fillStyle = '#0b2e39'
  for (const [index, line] of lines.entries()) ink.fillText(line, x, bottom - height + 15 + index * 18)
  return bottom - height
}

function wrap(ink, text) {
  const lines = ['']
  for (const word of text.split(/\s+/)) {
    // A word too long for any line is cut, not drawn across the pond.
    for (const piece of word.match(/.{1,24}/gu) ?? []) {
      const longer = `${lines.at(-1)} ${piece}`.trim()
      if (ink.measureText(longer).width <= BUBBLE_WIDTH) lines[lines.length - 1] = longer
      else lines.push(piece)
    }
  }
  return lines.filter((line, index) => line || index === 0)
}
