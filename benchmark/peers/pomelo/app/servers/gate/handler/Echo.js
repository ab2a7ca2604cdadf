module.exports = require('../../../../services/echo')
