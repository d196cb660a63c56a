// The npm package `dotenv` (argument: its directory) or Node itself (argument: node-env-file).
// Reads a JSON list of texts, writes the variables of each, and for the package how many lines it
// passes over: they are in no match of its expression, and neither empty nor comments.
'use strict'
const fs = require('fs')
const util = require('util')

const [reader, texts, out] = process.argv.slice(2)
const npm = reader !== 'node-env-file'
const parse = npm ? require(reader).parse : util.parseEnv

// The expression as the package spells it.
const source = npm ? fs.readFileSync(require.resolve(reader), 'utf8') : ''
const expression = /\/(\(\?:\^\|\^\)\\s\*\(\?:export.*?\(\?:\$\|\$\))\/mg/.exec(source)?.[1]

function passedOver (text) {
  let count = 0
  let at = 0
  const look = (piece) => {
    count += piece.split(/[\n\u2028\u2029]/).filter((line) => line.trim() && line.trim()[0] !== '#').length
  }
  text = text.replace(/\r\n?/mg, '\n')
  for (const match of text.matchAll(new RegExp(expression, 'mg'))) {
    look(text.slice(at, match.index))
    at = match.index + match[0].length
  }
  look(text.slice(at))
  return count
}

const found = JSON.parse(fs.readFileSync(texts, 'utf8')).map((text) => ({
  variables: Object.entries(parse(text)),
  passed_over: npm ? passedOver(text) : null
}))
fs.writeFileSync(out, JSON.stringify(found))
