// The npm package `dotenv` (argument: its directory) or Node itself (argument: node-env-file).
// Reads a JSON list of texts, writes the variables of each.
'use strict'
const fs = require('fs')
const util = require('util')

const [reader, texts, out] = process.argv.slice(2)
const parse = reader === 'node-env-file' ? util.parseEnv : require(reader).parse
const variables = JSON.parse(fs.readFileSync(texts, 'utf8')).map((text) => Object.entries(parse(text)))
fs.writeFileSync(out, JSON.stringify(variables))
