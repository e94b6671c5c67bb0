import { expect, it } from 'vitest'
import { readRoutes } from '../routes/read-routes.ts'
import { type Routes, RouteTable } from '../routes/route-table.ts'
import { startSource } from './http-source.fixture.ts'

const tableOf = (yaml: string) => {
  const { rules, problems } = readRoutes(yaml, 'test')
  expect(problems).toEqual([])
  return new RouteTable(rules)
}

it('a path of the route table is a door, and its query belongs to the topic', async () => {
  const { post, pipeline } = await startSource({}, {}, { routes: tableOf('- { path: "/hooks/+", codec: generic }') })
  const answer = await post('/hooks/acme?event=up', '{"t":1}')
  expect([answer.status, await answer.json()]).toEqual([202, { accepted: 1, id: expect.any(String) }])
  expect(pipeline.last).toMatchObject({ topic: '/hooks/acme?event=up', device: undefined, source: 'http' })
  expect((await post('/hooks/acme', '{"t":1}', { authorization: 'Bearer wrong' })).status).toBe(401)
  expect((await post('/hooks/acme/more', '{"t":1}')).status).toBe(404)
})

it('a door opens and closes with the table', async () => {
  let table = tableOf('[]')
  const routes: Routes = { find: (routed) => table.find(routed), hasPath: (topic) => table.hasPath(topic) }
  const { post, url } = await startSource({}, {}, { routes })
  expect((await post('/hooks/acme', '{"t":1}')).status).toBe(404)
  table = tableOf('- { path: /hooks/acme }')
  expect((await post('/hooks/acme', '{"t":1}')).status).toBe(202)
  expect((await fetch(`${url}/hooks/acme`)).status, 'there is nothing to read').toBe(404)
})

it('an array is split for the forms that hold a message an element, and for no other codec', async () => {
  const routes = tableOf(
    '- { path: /v1/telemetry, contentType: application/json, codec: senml }\n- { path: /own, codec: own }',
  )
  const { post, pipeline } = await startSource({}, {}, { routes })
  expect((await post('/v1/telemetry', '[{"n":"a","v":1},{"n":"b","v":2}]')).status).toBe(202)
  expect((await post('/own', '[{"a":1},{"a":2}]')).status).toBe(202)
  expect((await post('/v1/telemetry', '{"a":1}\n{"a":2}', { 'content-type': 'application/x-ndjson' })).status).toBe(202)
  expect(pipeline.payloads).toEqual(['[{"n":"a","v":1},{"n":"b","v":2}]', '{"a":1}', '{"a":2}', '{"a":1}', '{"a":2}'])
})
