// Answers with what it was sent.
'use strict'

module.exports = () => ({
  Echo: ({ content }, session, next) => next(null, { content }),
})
