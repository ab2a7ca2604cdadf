// The view of the chat and cluster pages. Everything a user wrote is inserted as text, never as HTML.

const titled = document.title
/** How long good news stands in the banner, in ms. */
const GOOD_NEWS = 4000

/**
 * The page; `onjoin(name)`, `onsend(content)` (false when it cannot be sent now) and `onleave()` are its owner's to set. What was sent stands
 * below all other lines, as pending, until `confirm` or `fail`.
 */
export class Room {
  onjoin = () => {}
  onsend = () => false
  onleave = () => {}

  #find
  #self = null
  #members = []
  #unread = 0
  /** The author of each line: neighbours of one author are grouped. */
  #authors = new WeakMap()
  /** Own lines that have not come back from the room, in order, as `{ item, content }`. */
  #pending = []
  #fading

  constructor(document) {
    this.#find = (id) => document.getElementById(id)
    this.#find('join').addEventListener('submit', (event) => {
      event.preventDefault()
      const name = this.name.trim()
      if (!name) return
      this.#refusal('')
      this.#busy(true)
      this.onjoin(name)
    })
    this.#find('compose').addEventListener('submit', (event) => {
      event.preventDefault()
      this.#send()
    })
    this.#find('content').addEventListener('keydown', (event) => {
      // While an input method composes, Enter chooses a word.
      if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return
      event.preventDefault()
      this.#send()
    })
    this.#find('leave').addEventListener('click', () => this.onleave())
    this.#find('newer').addEventListener('click', () => this.#toEnd())
    this.#find('log').addEventListener('scroll', () => this.#atEnd() && (this.#find('newer').hidden = true))
    document.addEventListener('visibilitychange', () => this.#seen())
    // Otherwise the server would keep the seat of a player who has gone.
    window.addEventListener('pagehide', () => this.onleave())
  }

  get name() {
    return this.#find('name').value
  }

  set name(name) {
    this.#find('name').value = name
  }

  /** The other members of the room, as `{ id, name }`. */
  set members(members) {
    this.#members = members
    this.#list()
  }

  inside(name) {
    this.#self = name
    this.#busy(false)
    this.#find('lobby').hidden = true
    this.#find('room').hidden = false
    this.online()
    this.#list()
    this.notice(this.#members.length ? 'You joined the room' : 'You are the first one here')
    this.#find('content').focus()
  }

  /** Back to the lobby, with the reason unless it is empty. */
  outside(reason) {
    this.#self = null
    this.#members = []
    this.#pending = []
    this.#busy(false)
    this.#find('log').replaceChildren()
    this.#find('room').hidden = true
    this.#find('lobby').hidden = false
    if (reason) this.#refusal(reason)
    this.#find('name').focus()
  }

  /** Shows why the room is not there now. `sendable` is whether one can write all the same: it goes out later. */
  offline(text, sendable = false) {
    clearTimeout(this.#fading)
    this.#banner(text, 'wait')
    this.#find('send').disabled = !sendable
  }

  /** The room is there, again: with good news, unless they are empty. */
  online(news = '') {
    clearTimeout(this.#fading)
    this.#banner(news, 'good')
    if (news) this.#fading = setTimeout(() => this.#banner('', ''), GOOD_NEWS)
    this.#find('send').disabled = false
  }

  arrived(member) {
    this.members = [...this.#members, member]
    this.notice(`${member.name} joined`)
  }

  left({ id, name }) {
    this.members = this.#members.filter((member) => member.id !== id)
    this.notice(`${name} left`)
  }

  notice(text) {
    this.#append(element('li', 'notice', text))
  }

  /** Adds a line from the room. */
  message({ name, content }) {
    this.#append(this.#line(name, content, name))
    if (document.hidden) document.title = `(${++this.#unread}) ${titled}`
  }

  /** Own words have come back from the room. False if they do not wait for that. */
  confirm(content) {
    const at = this.#pending.findIndex((line) => line.content === content)
    if (at < 0) return false
    const [{ item }] = this.#pending.splice(at, 1)
    item.classList.remove('pending')
    item.querySelector('.state').remove()
    // The others still wait, so that it stands above them.
    const first = this.#pending[0]
    if (at > 0) this.#insert(item, first.item)
    return true
  }

  /** The lines that wait, or the first of them with this content, have perhaps not arrived; each can be sent again. */
  fail(only) {
    const at = this.#pending.findIndex(({ content }) => content === only)
    const failed = only === undefined ? this.#pending.splice(0) : this.#pending.splice(at, at < 0 ? 0 : 1)
    for (const { item, content } of failed) {
      item.classList.replace('pending', 'failed')
      const again = element('button', 'quiet', 'Send again')
      again.type = 'button'
      again.addEventListener('click', () => {
        if (!this.#said(content)) return
        const next = item.nextElementSibling
        item.remove()
        this.#group(next)
      })
      item.querySelector('.state').replaceChildren('Perhaps not delivered ', again)
    }
  }

  #send() {
    const field = this.#find('content')
    const content = field.value.trim()
    if (content && this.#said(content)) field.value = ''
  }

  #said(content) {
    if (!this.onsend(content)) return false
    const item = this.#line(this.#self, content, 'You')
    item.classList.add('mine', 'pending')
    item.append(element('div', 'state', 'Sending…'))
    this.#append(item, true)
    this.#pending.push({ item, content })
    return true
  }

  #line(name, content, who) {
    const item = element('li', 'message')
    const now = new Date()
    const time = element('time', '', now.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' }))
    time.dateTime = now.toISOString()
    const head = element('span', 'who', who)
    head.append(time)
    item.append(head, face(name), element('div', 'text', content))
    item.style.setProperty('--hue', hue(name))
    this.#authors.set(item, who)
    return item
  }

  #list() {
    const items = this.#members.map(({ name }) => person(name))
    if (this.#self !== null) {
      const own = person(this.#self)
      own.append(element('span', 'you', 'you'))
      items.unshift(own)
    }
    this.#find('members').replaceChildren(...items)
    this.#find('count').textContent = items.length
  }

  /** Adds a line above those that wait, or one of those at the end. */
  #append(item, follow = false) {
    const end = this.#atEnd()
    this.#insert(item, follow ? null : (this.#pending[0]?.item ?? null))
    if (end || follow) this.#toEnd()
    else this.#find('newer').hidden = false
  }

  #insert(item, before) {
    const next = item.nextElementSibling
    this.#find('log').insertBefore(item, before)
    for (const moved of [item, item.nextElementSibling, next]) this.#group(moved)
  }

  #group(item) {
    if (!item) return
    const author = this.#authors.get(item)
    item.classList.toggle('more', author !== undefined && author === this.#authors.get(item.previousElementSibling))
  }

  #banner(text, kind) {
    const banner = this.#find('banner')
    banner.textContent = text
    banner.className = kind
    banner.hidden = !text
  }

  #atEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.#find('log')
    return scrollHeight - scrollTop - clientHeight < 40
  }

  #toEnd() {
    const log = this.#find('log')
    log.scrollTop = log.scrollHeight
    this.#find('newer').hidden = true
  }

  #seen() {
    if (document.hidden) return
    this.#unread = 0
    document.title = titled
  }

  #busy(busy) {
    this.#find('join').querySelector('button').disabled = busy
  }

  #refusal(text) {
    this.#find('refusal').textContent = text
  }
}

function person(name) {
  const item = element('li')
  const label = element('span', 'name', name)
  label.title = name
  item.append(face(name), label)
  return item
}

function face(name) {
  // A letter may take two code units.
  const circle = element('span', 'face', [...name][0].toUpperCase())
  circle.setAttribute('aria-hidden', 'true')
  circle.style.setProperty('--hue', hue(name))
  return circle
}

/** A colour that stays with a name. */
function hue(name) {
  let hash = 0
  for (const letter of name) hash = (hash * 31 + letter.codePointAt(0)) % 65536
  // Steps of the golden angle put similar names far apart.
  return Math.round(hash * 137.508) % 360
}

function element(tag, className = '', text = '') {
  const made = document.createElement(tag)
  made.className = className
  made.textContent = text
  return made
}
