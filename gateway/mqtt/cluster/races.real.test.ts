import { afterEach, beforeEach, expect, it } from 'vitest'
import { RawClient } from '../testing/raw-client.ts'
import { seededRandom, startingSeed } from '../testing/seeded.ts'
import { acknowledge, command, persistent, subscribe, TestCluster, texts } from './cluster.fixture.ts'

let cluster: TestCluster

beforeEach(async () => {
  cluster = await TestCluster.start()
  await expect.poll(() => cluster.shares()).toBe(true)
})
afterEach(() => cluster[Symbol.asyncDispose]())
