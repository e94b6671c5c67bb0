import { quoted } from '#platform/shell-word.ts'
import { inComment } from './literals.ts'
import type { SnippetFacts } from './snippet.ts'

/** One reading a run, for cron and for trying. */
export function curl({ httpUrl, httpsUrl, ca, device, token }: SnippetFacts): string {
  const url = quoted(`${httpsUrl ?? httpUrl}/v1/telemetry`)
  const authority = httpsUrl === undefined || ca === undefined ? '' : ` --cacert ${quoted(ca.file)}`
  return String.raw`#!/bin/sh
# fleetbridge: device ${inComment(device)} by curl 7.76 or newer. The token below is shown this once.
${httpsUrl === undefined ? "# Not encrypted. When the gateway has TLS: https, its port (8443), and --cacert with its authority's file.\n" : ''}TOKEN=${quoted(token)}
TS=$(date +%s) # taken once, so that every try is the same reading and is stored once
# The token comes by standard input: other users can read a command line. Retry-After is obeyed.
printf 'Authorization: Bearer %s\n' "$TOKEN" | curl -sS --fail-with-body -w '\n' -H @-${authority} \
  --connect-timeout 5 --max-time 15 --retry 8 --retry-connrefused --retry-max-time 300 \
  -H 'Content-Type: application/json' -d '{"ts":'"$TS"',"values":{"temperature":21.5}}' \
  ${url}
`
}
