import { readdirSync, readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { readScenario } from './scenario.ts'

const builtIn = new URL('./built-in/', import.meta.url)

it.each(readdirSync(builtIn))('%s is a scenario', (file) => {
  const scenario = readScenario(readFileSync(new URL(file, builtIn), 'utf8'), file)
  expect(`${scenario.name}.yaml`).toBe(file)
  expect(scenario.groups.length).toBeGreaterThan(1)
})

it('fills in what is not said', () => {
  const { groups, storms, ramp } = readScenario('name: x\ngroups:\n  - { name: a, devices: 2 }\n', 'x.yaml')
  expect({ storms, ramp }).toEqual({ storms: [], ramp: '2s' })
  expect(groups).toMatchObject([{ model: 'climate', every: '5s', format: 'own', transport: 'mqtt', qos: 1, late: 0 }])
})

it.each([
  ['name: x\ngroups: []\n', /line 2: groups/],
  ['name: x\n', /groups/],
  ['name: "Not a name"\ngroups:\n  - { name: a, devices: 1 }\n', /line 1: name/],
  ['name: x\ngroups:\n  - name: a\n    devices: 0\n', /line 4: groups\.0\.devices/],
  ['name: x\ngroups:\n  - name: a\n    devices: 1\n    model: toaster\n', /line 5: groups\.0\.model/],
  ['name: x\ngroups:\n  - name: a\n    devices: 1\n    colour: red\n', /colour|additional/],
  ['name: x\ngroups:\n  - name: a\n    devices: 1\n    every: soon\n', /line 5: groups\.0\.every/],
  ['name: x\ngroups:\n  - { name: a, devices: 1 }\n  - { name: a, devices: 1 }\n', /two groups are called a/],
  ['name: x\ngroups:\n  - { name: a, devices: 1, format: influx }\n', /influx goes over http, not over mqtt/],
  ['name: x\ngroups:\n  - { name: a, devices: 1, format: senml, transport: ws }\n', /senml goes over mqtt5, http/],
  ['name: x\ngroups:\n  - { name: a, devices: 1, clock: none, format: generic }\n', /needs an id/],
  ['name: x\ngroups: [\n', /line [23]/],
])('says what is wrong with %j', (text, problem) => {
  expect(() => readScenario(text, 'x.yaml')).toThrow(problem)
})
