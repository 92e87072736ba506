// Map events with Segment's own engine: node peer.cjs FOLDER EVENTS MAPPING; prints the seconds, of mapping alone.
const fs = require('fs')
const { createRequire } = require('module')

const [folder, events, mapping] = process.argv.slice(2)
const { transform } = createRequire(`${folder}/`)('@segment/actions-core')
const fields = JSON.parse(fs.readFileSync(mapping, 'utf8'))
const rows = fs.readFileSync(events, 'utf8').trimEnd().split('\n').map((line) => JSON.parse(line))

const start = process.hrtime.bigint()
let last
for (const row of rows) last = transform(fields, row)
const seconds = Number(process.hrtime.bigint() - start) / 1e9

console.log(JSON.stringify({ rows: rows.length, seconds, last }))
