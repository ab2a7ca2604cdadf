// One channel of all sessions that join.
'use strict'

module.exports = (app) => {
  const channel = () => app.get('channelService').getChannel('all', true)
  return {
    // Channels of pomelo are of users; the client says what it is called.
    Join: ({ content }, session, next) =>
      session.bind(content, (error) => {
        if (!error) channel().add(content, session.frontendId)
        next(error, { content })
      }),
    Send: ({ content }, session, next) => channel().pushMessage('onBroadcast', { content }, next),
  }
}
