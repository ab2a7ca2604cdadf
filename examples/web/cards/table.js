// The view of the cards page. Names are inserted as text, never as HTML.

/** How long news and good news stand, in ms. */
const NEWS = 8000
const GOOD_NEWS = 4000

/** The page; `onjoin(name)`, `onfind()`, `onplay(card)`, `onannounce(text)` and `onleave()` are its owner's to set. */
export class Table {
  onjoin = () => {}
  onfind = () => {}
  onplay = () => {}
  onannounce = () => {}
  onleave = () => {}

  #find
  #timers = {}

  constructor(document) {
    this.#find = (id) => document.getElementById(id)
    this.#find('join').addEventListener('submit', (event) => {
      event.preventDefault()
      const name = this.#find('name').value.trim()
      if (!name) return
      this.#find('refusal').textContent = ''
      this.#busy(true)
      this.onjoin(name)
    })
    this.#find('play').addEventListener('click', () => {
      this.#find('play').hidden = true
      this.onfind()
    })
    this.#find('announce').addEventListener('submit', (event) => {
      event.preventDefault()
      this.onannounce(this.#find('text').value)
      this.#find('text').value = ''
    })
    this.#find('leave').addEventListener('click', () => this.onleave())
  }

  /** In the room, at no table yet. */
  inside(name, admin) {
    this.#busy(false)
    this.#find('lobby').hidden = true
    this.#find('room').hidden = false
    this.#find('announce').hidden = !admin
    this.#find('place').textContent = ''
    this.#side('you', { name, cards: 0, tricks: 0 })
    this.#side('other', null)
    this.#hand([], false)
    this.#slots({}, {})
    this.#clock(0, 1)
    this.#status(`Welcome, ${name}`)
    this.#button('Find a game')
  }

  /** Back to the lobby, with the reason unless it is empty. */
  outside(reason) {
    this.#busy(false)
    this.banner('', '')
    this.#find('room').hidden = true
    this.#find('lobby').hidden = false
    this.#find('refusal').textContent = reason
  }

  /** What happens to the connection; `kind` is `wait` or `good`. */
  banner(text, kind) {
    this.#say('banner', text, kind === 'good' ? GOOD_NEWS : 0)
    this.#find('banner').className = kind
  }

  news(text) {
    this.#say('news', text, NEWS)
  }

  /**
   * Shows a table: `hand`, the sides `you` and `other` (null until a second player sits there) with `name`, `cards`, `tricks`, `played` and `last`
   * card, `yourTurn`, `timeLeft` and `turnTime` in ms, `won` once there is a winner.
   */
  show({ table, node, hand, you, other, yourTurn, timeLeft, turnTime, won }) {
    this.#find('place').textContent = `Table ${table} on node ${node}`
    this.#side('you', you)
    this.#side('other', other)
    this.#hand(hand, yourTurn)
    this.#slots(you, other ?? {})
    this.#clock(won === null && other ? timeLeft : 0, turnTime)
    this.#find('clock').classList.toggle('yours', yourTurn)
    this.#button(won === null ? '' : 'Play again')
    if (won !== null) this.#status(won ? 'You win!' : `${other.name} wins`)
    else if (!other) this.#status('Waiting for a second player…')
    else this.#status(yourTurn ? 'Your turn' : `${other.name} is thinking…`)
  }

  #side(id, side) {
    const section = this.#find(id)
    section.querySelector('.name').textContent = side?.name ?? ''
    section.querySelector('.tricks').replaceChildren(...Array.from({ length: side ? 3 : 0 }, (_, at) => element('i', at < side.tricks ? 'taken' : '')))
    section.querySelector('.tricks').title = `${side?.tricks ?? 0} tricks`
    if (id === 'other') section.querySelector('.hand').replaceChildren(...Array.from({ length: side?.cards ?? 0 }, () => element('li', 'playing back')))
  }

  #hand(cards, playable) {
    const items = cards.map((card) => {
      const item = element('li')
      const button = face('button', card)
      button.type = 'button'
      button.disabled = !playable
      button.addEventListener('click', () => this.onplay(card))
      item.append(button)
      return item
    })
    this.#find('you').querySelector('.hand').replaceChildren(...items)
  }

  /** The cards of this trick, or those of the last one while there are none. */
  #slots(you, other) {
    const begun = (you.played ?? other.played ?? null) !== null
    const [mine, theirs] = begun ? [you.played, other.played] : [you.last, other.last]
    for (const [id, card, beaten] of [['mine', mine, theirs > mine], ['theirs', theirs, mine > theirs]]) {
      const slot = this.#find(id)
      slot.replaceChildren(...((card ?? null) === null ? [] : [face('div', card)]))
      slot.classList.toggle('over', !begun)
      slot.classList.toggle('beaten', !begun && beaten)
    }
  }

  #clock(left, whole) {
    const bar = element('i')
    bar.style.animationDuration = `${whole}ms`
    bar.style.animationDelay = `${left - whole}ms`
    this.#find('clock').replaceChildren(...(left > 0 ? [bar] : []))
  }

  #status(text) {
    this.#find('status').textContent = text
  }

  #button(text) {
    this.#find('play').textContent = text
    this.#find('play').hidden = !text
  }

  #say(id, text, ms) {
    const place = this.#find(id)
    clearTimeout(this.#timers[id])
    place.textContent = text
    place.hidden = !text
    if (text && ms) this.#timers[id] = setTimeout(() => (place.hidden = true), ms)
  }

  #busy(busy) {
    this.#find('join').querySelector('button').disabled = busy
  }
}

/** A card from 1 to 30; the colour goes with it, from cold to warm. */
function face(tag, card) {
  const made = element(tag, 'playing')
  made.style.setProperty('--hue', Math.round(250 - card * 7.5))
  made.append(element('span', 'corner', card), element('span', 'value', card), element('span', 'corner', card))
  made.setAttribute('aria-label', `Card ${card}`)
  return made
}

function element(tag, className = '', text = '') {
  const made = document.createElement(tag)
  made.className = className
  made.textContent = text
  return made
}
