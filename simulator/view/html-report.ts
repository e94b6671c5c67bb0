import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import type { FleetReport } from '../fleet/fleet-report.ts'

const require = createRequire(import.meta.url)

/** The report as one page that needs nothing from outside: charts of rate, latency, connections and errors over time, and the audit. */
export function htmlReport(report: FleetReport): string {
  const library = readFileSync(require.resolve('uplot/dist/uPlot.iife.min.js'), 'utf8')
  const css = readFileSync(require.resolve('uplot/dist/uPlot.min.css'), 'utf8')
  const { audit, counts, ackMs, rate, self } = report
  const facts: [string, string][] = [
    ['devices', String(report.devices)],
    ['duration', `${(report.durationMs / 1000).toFixed(1)} s`],
    ['messages a second', `${rate.reached.toFixed(0)} of ${rate.asked.toFixed(0)} asked`],
    ['sent', `${counts.sent} of ${counts.due} due`],
    ['acknowledged', String(counts.accepted)],
    ['parked, refused', `${counts.parked}, ${counts.refused}`],
    ['sent again', String(counts.resent)],
    ['acknowledged in, p50', ackMs === null ? '-' : `${ackMs.p50.toFixed(1)} ms`],
    ['acknowledged in, p99', ackMs === null ? '-' : `${ackMs.p99.toFixed(1)} ms`],
    ['simulator', `${self.cpuUsPerMessage.toFixed(0)} µs a message, ${(self.memoryBytes / 1e6).toFixed(0)} MB`],
    ['seed', String(report.seed)],
  ]
  const verdict =
    audit === null
      ? 'not compared with the rows'
      : audit.ok
        ? 'clean: every acknowledged message is there exactly once'
        : 'the audit failed'
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escaped(report.scenario)}, run ${escaped(report.run)}</title>
<style>${css}
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem; color: #1d2733; background: #fff }
h1 { font-size: 1.4rem; margin: 0 } h2 { font-size: 1rem; margin: 2rem 0 .3rem }
.sub { color: #5a6875; margin: 0 0 1rem }
.verdict { padding: .5rem .8rem; border-radius: .3rem; background: ${audit === null ? '#eceff2' : audit.ok ? '#dff3e4' : '#fbdfdd'} }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(14rem, 1fr)); gap: .4rem 1.5rem }
dt { color: #5a6875; font-size: .85rem } dd { margin: 0; font-variant-numeric: tabular-nums }
table { border-collapse: collapse; font-variant-numeric: tabular-nums } td, th { padding: .2rem .8rem .2rem 0; text-align: right } th { font-weight: 500; color: #5a6875 }
td:first-child, th:first-child { text-align: left }
.chart { overflow-x: auto }
</style>
</head>
<body>
<h1>${escaped(report.scenario)}</h1>
<p class="sub">run ${escaped(report.run)}, ${escaped(report.startedAt)}</p>
<p class="verdict">${escaped(verdict)}</p>
${audit === null ? '' : auditTable(audit)}
<dl>${facts.map(([name, value]) => `<div><dt>${escaped(name)}</dt><dd>${escaped(value)}</dd></div>`).join('')}</dl>
<h2>Messages a second</h2><div class="chart" id="rate"></div>
<h2>From due to acknowledged, ms (logarithmic)</h2><div class="chart" id="latency"></div>
<h2>Connections, in flight, waiting</h2><div class="chart" id="state"></div>
<h2>Errors a second</h2><div class="chart" id="errors"></div>
${errorTable(report.errors)}
<script>${library.replaceAll('</script', '<\\/script')}</script>
<script>
const seconds = ${JSON.stringify(report.seconds).replaceAll('<', '\\u003c')};
const column = (name) => seconds.map((second) => second[name]);
const width = Math.min(960, document.body.clientWidth);
const chart = (id, lines, more = {}) => new uPlot({
  width, height: 220, scales: { x: { time: false }, ...more.scales }, axes: [{ label: 'seconds' }, { size: 70 }],
  series: [{ label: 's' }, ...lines.map(([, label, stroke]) => ({ label, stroke, width: 1.5, spanGaps: true }))],
}, [column('at'), ...lines.map(([name]) => column(name))], document.getElementById(id));
chart('rate', [['due', 'due', '#9aa5b1'], ['sent', 'sent', '#2f6fde'], ['accepted', 'acknowledged', '#22a06b']]);
chart('latency', [['p50', 'p50', '#22a06b'], ['p99', 'p99', '#d9480f']], { scales: { y: { distr: 3 } } });
chart('state', [['connected', 'connected', '#2f6fde'], ['inFlight', 'in flight', '#22a06b'], ['waiting', 'waiting', '#d9480f']]);
chart('errors', [['errors', 'errors', '#c92a2a']]);
</script>
</body>
</html>
`
}

function auditTable({
  sent,
  acked,
  rows,
  duplicates,
  dead,
  missing,
  phantom,
  doubled,
  reordered,
  examples,
}: NonNullable<FleetReport['audit']>): string {
  const counts = { sent, acked, rows, duplicates, dead, missing, phantom, doubled, reordered }
  const cells = (tag: string, texts: readonly string[]) =>
    texts.map((text) => `<${tag}>${escaped(text)}</${tag}>`).join('')
  const list = examples.map((text) => `<li>${escaped(text)}</li>`).join('')
  return `<table><tr>${cells('th', Object.keys(counts))}</tr><tr>${cells('td', Object.values(counts).map(String))}</tr></table>${list === '' ? '' : `<ul>${list}</ul>`}`
}

function errorTable(errors: Readonly<Record<string, number>>): string {
  const rows = Object.entries(errors).map(([code, count]) => `<tr><td>${escaped(code)}</td><td>${count}</td></tr>`)
  return rows.length === 0 ? '' : `<table><tr><th>code</th><th>count</th></tr>${rows.join('')}</table>`
}

function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`)
}
