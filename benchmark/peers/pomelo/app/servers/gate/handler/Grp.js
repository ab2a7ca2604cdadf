module.exports = require('../../../../services/grp')
