import { defineConfig } from 'vitest/config'

const shared = {
  testTimeout: 30_000,
  hookTimeout: 120_000,
  restoreMocks: true,
  setupFiles: ['test/patience.ts'],
  retry: 1, // never silently: the summary lists what needed it (docs/decisions/0018)
  expect: { poll: { timeout: 10_000 } },
}

/** `unit` needs no server; `real` runs against Kafka, Redis and Postgres, which test/servers brings up or takes from the environment. */
export default defineConfig({
  test: {
    reporters: ['default', './test/summary-reporter.ts'],
    projects: [
      {
        test: {
          ...shared,
          name: 'unit',
          include: ['{cli,gateway,worker,schema,simulator,platform,docs,bench,ops}/**/*.test.ts'],
          exclude: ['**/*.real.test.ts', '**/node_modules/**'],
          maxWorkers: 3, // most of their time is waiting
          sequence: { groupOrder: 1 },
        },
      },
      {
        test: {
          ...shared,
          name: 'real',
          include: ['**/*.real.test.ts', 'test/**/*.test.ts'],
          exclude: ['**/node_modules/**'],
          globalSetup: ['test/servers/global-setup.ts'],
          maxWorkers: 3,
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
})
