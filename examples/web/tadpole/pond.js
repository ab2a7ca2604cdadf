// The pond: water, drifting specks and all swimmers, centred on this page's own swimmer.

import { glow } from './swimmer.js'

const SPECKS = 140
const FIELD = 1600

export class Pond {
  #canvas
  #ink
  #camera = { x: 0, y: 0 }
  #still = matchMedia('(prefers-reduced-motion: reduce)').matches
  #specks = Array.from({ length: SPECKS }, () => ({
    x: Math.random() * FIELD,
    y: Math.random() * FIELD,
    depth: 0.25 + Math.random() * 0.75,
    phase: Math.random() * 6,
  }))

  constructor(canvas) {
    this.#canvas = canvas
    this.#ink = canvas.getContext('2d')
  }

  /** Where a point of the window lies in the pond. */
  toWorld(x, y) {
    return { x: x - innerWidth / 2 + this.#camera.x, y: y - innerHeight / 2 + this.#camera.y }
  }

  /** Draws one frame; `self` is one of `swimmers`, or null while only looking. `time` and `seconds` since the last frame, in seconds. */
  draw(swimmers, self, time, seconds) {
    const [width, height] = [innerWidth, innerHeight]
    this.#fit(width, height)
    if (self) {
      const pull = 1 - Math.exp(-4 * seconds)
      this.#camera.x += (self.x - this.#camera.x) * pull
      this.#camera.y += (self.y - this.#camera.y) * pull
    }
    const drift = this.#still ? 0 : time
    this.#water(width, height, drift)
    const placed = swimmers.filter((swimmer) => swimmer.placed)
    this.#ink.save()
    this.#ink.translate(width / 2 - this.#camera.x, height / 2 - this.#camera.y)
    for (const swimmer of placed) swimmer.draw(this.#ink, swimmer === self)
    for (const swimmer of placed) swimmer.drawWords(this.#ink)
    this.#ink.restore()
    for (const swimmer of placed) if (swimmer !== self) this.#pointTo(swimmer, width, height)
  }

  #fit(width, height) {
    const ratio = Math.min(devicePixelRatio, 2)
    const [wide, high] = [Math.round(width * ratio), Math.round(height * ratio)]
    if (this.#canvas.width !== wide || this.#canvas.height !== high) Object.assign(this.#canvas, { width: wide, height: high })
    this.#ink.setTransform(ratio, 0, 0, ratio, 0, 0)
  }

  #water(width, height, time) {
    const ink = this.#ink
    const depth = ink.createLinearGradient(0, 0, 0, height)
    depth.addColorStop(0, '#11606b')
    depth.addColorStop(0.55, '#0a3f4d')
    depth.addColorStop(1, '#06232d')
    ink.fillStyle = depth
    ink.fillRect(0, 0, width, height)
    // Light that falls through the surface and wanders.
    for (let index = 0; index < 5; index++) {
      const x = width * (0.5 + 0.55 * Math.sin(index * 2.1 + time * 0.07)) - this.#camera.x * 0.1
      const y = height * (0.15 + 0.25 * Math.sin(index * 1.3 + time * 0.05)) - this.#camera.y * 0.1
      glow(ink, x, y, Math.max(width, height) * 0.45, 'rgb(140 235 215 / 0.08)')
    }
    for (const { x, y, depth: near, phase } of this.#specks) {
      const left = wrapped(x - this.#camera.x * near + Math.sin(time * 0.3 + phase) * 14)
      const top = wrapped(y - this.#camera.y * near - time * 6 * near)
      if (left > width || top > height) continue
      ink.fillStyle = `rgb(190 245 232 / ${0.1 + 0.25 * near})`
      ink.beginPath()
      ink.arc(left, top, 0.6 + 1.6 * near, 0, 2 * Math.PI)
      ink.fill()
    }
  }

  /** A drop at the edge of the window that points to a swimmer outside of it. */
  #pointTo({ x, y, hue, name }, width, height) {
    const [dx, dy] = [x - this.#camera.x, y - this.#camera.y]
    const scale = Math.max(Math.abs(dx) / (width / 2 - 26), Math.abs(dy) / (height / 2 - 26))
    if (scale <= 1) return
    const [left, top] = [width / 2 + dx / scale, height / 2 + dy / scale]
    const ink = this.#ink
    ink.save()
    ink.translate(left, top)
    ink.rotate(Math.atan2(dy, dx))
    ink.fillStyle = `hsl(${hue} 70% 65% / 0.8)`
    ink.beginPath()
    ink.moveTo(13, 0)
    ink.lineTo(-6, 8)
    ink.lineTo(-6, -8)
    ink.fill()
    ink.restore()
    ink.textAlign = left < width / 2 ? 'left' : 'right'
    ink.font = '12px system-ui, sans-serif'
    ink.fillStyle = 'rgb(232 246 243 / 0.6)'
    ink.fillText(name, left + (left < width / 2 ? 18 : -18), top)
  }
}

function wrapped(value) {
  return ((value % FIELD) + FIELD) % FIELD
}
