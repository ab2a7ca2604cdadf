// The view of the chat and cluster pages. Everything a user wrote is inserted as text, never as HTML.

const titled = document.title

/** The page; `onjoin(name)`, `onsend(content)` (false when it could not be sent) and `onleave()` are its owner's to set. */
export class Room {
  onjoin = () => {}
  onsend = () => false
  onleave = () => {}

  #find
  #self = null
  #members = []
  #last = null
  #unread = 0

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
    this.#last = null
    this.#busy(false)
    this.#find('log').replaceChildren()
    this.#find('room').hidden = true
    this.#find('lobby').hidden = false
    if (reason) this.#refusal(reason)
    this.#find('name').focus()
  }

  offline(text) {
    this.#find('banner').textContent = text
    this.#find('banner').hidden = false
    this.#find('send').disabled = true
  }

  online() {
    this.#find('banner').hidden = true
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
    this.#last = null
    this.#append(element('li', 'notice', text))
  }

  message({ name, content, mine }) {
    const item = element('li', 'message')
    const now = new Date()
    const time = element('time', '', now.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' }))
    time.dateTime = now.toISOString()
    const who = element('span', 'who', mine ? 'You' : name)
    who.append(time)
    item.append(who, face(name), element('div', 'text', content))
    item.style.setProperty('--hue', hue(name))
    item.classList.toggle('mine', mine)
    const author = JSON.stringify([name, mine])
    item.classList.toggle('more', author === this.#last)
    this.#last = author
    this.#append(item, mine)
    if (document.hidden) document.title = `(${++this.#unread}) ${titled}`
  }

  #send() {
    const field = this.#find('content')
    const content = field.value.trim()
    if (content && this.onsend(content)) field.value = ''
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

  #append(item, follow = false) {
    const end = this.#atEnd()
    this.#find('log').append(item)
    if (end || follow) this.#toEnd()
    else this.#find('newer').hidden = false
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
