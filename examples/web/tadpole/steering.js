// Arrow keys, mouse and finger, as one wish: where to turn, and how hard to swim.

import { turnTo } from './swimmer.js'

const ARROWS = ['ArrowLeft', 'ArrowRight', 'ArrowUp', 'ArrowDown']

export class Steering {
  #held = new Set()
  #pointer = null

  constructor(canvas, typing) {
    addEventListener('keydown', (event) => {
      if (!ARROWS.includes(event.key) || typing()) return
      this.#held.add(event.key)
      event.preventDefault()
    })
    addEventListener('keyup', ({ key }) => this.#held.delete(key))
    addEventListener('blur', () => this.#held.clear())
    canvas.addEventListener('pointerdown', (event) => {
      canvas.setPointerCapture(event.pointerId)
      this.#pointer = { x: event.clientX, y: event.clientY }
    })
    canvas.addEventListener('pointermove', ({ clientX, clientY }) => {
      if (this.#pointer) this.#pointer = { x: clientX, y: clientY }
    })
    for (const end of ['pointerup', 'pointercancel']) canvas.addEventListener(end, () => (this.#pointer = null))
  }

  /** `turn` from -1 to 1 and `thrust` from 0 to 1, for a swimmer in this pond. */
  wish(swimmer, pond) {
    if (this.#pointer) {
      const goal = pond.toWorld(this.#pointer.x, this.#pointer.y)
      const [dx, dy] = [goal.x - swimmer.x, goal.y - swimmer.y]
      const turn = turnTo(swimmer.angle, Math.atan2(dy, dx))
      return { turn: Math.max(-1, Math.min(1, turn * 2)), thrust: Math.min(1, Math.hypot(dx, dy) / 160) }
    }
    const held = (key) => Number(this.#held.has(key))
    const turn = held('ArrowRight') - held('ArrowLeft')
    const thrust = held('ArrowDown') ? 0 : held('ArrowUp') || Math.abs(turn) * 0.35
    return { turn, thrust }
  }
}
