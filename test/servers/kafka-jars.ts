import { existsSync } from 'node:fs'
import { mkdir, open, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { needProgram, run } from './server-process.ts'

export const kafkaVersion = '4.1.0'

const root = resolve(import.meta.dirname, '../..')

/** Folder with Kafka's jars, downloaded by Maven once and kept in FLEETBRIDGE_CACHE or .cache. */
export async function kafkaJars(): Promise<string> {
  const cache = process.env.FLEETBRIDGE_CACHE ?? join(root, '.cache')
  const folder = join(cache, `kafka-${kafkaVersion}`)
  if (existsSync(folder)) return folder
  await mkdir(cache, { recursive: true })
  const release = await takeLock(`${folder}.lock`, () => existsSync(folder))
  try {
    if (!existsSync(folder)) await download(folder)
  } finally {
    await release()
  }
  return folder
}

/** Two test runs may start at once: one downloads, the other waits. A lock whose owner is dead is broken. */
async function takeLock(path: string, done: () => boolean): Promise<() => Promise<void>> {
  for (;;) {
    try {
      const file = await open(path, 'wx')
      await file.writeFile(String(process.pid))
      await file.close()
      return () => rm(path, { force: true })
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    }
    if (done()) return async () => {}
    const owner = Number(await readFile(path, 'utf8').catch(() => ''))
    if (owner > 0 && !isAlive(owner)) await rm(path, { force: true })
    await sleep(200)
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

async function download(folder: string): Promise<void> {
  await needProgram('java', ['-version'], 'apt-get install -y openjdk-17-jre-headless')
  await needProgram('mvn', ['--version'], 'apt-get install -y maven')
  const work = `${folder}.${process.pid}.tmp`
  await rm(work, { recursive: true, force: true })
  await mkdir(work, { recursive: true })
  await writeFile(join(work, 'pom.xml'), pom)
  try {
    await run(
      'mvn',
      ['-q', '-B', '-f', join(work, 'pom.xml'), 'dependency:copy-dependencies', '-DoutputDirectory=jars'],
      {
        timeout: 300_000,
      },
    )
    await rename(join(work, 'jars'), folder) // only whole downloads get the final name
  } catch (error) {
    const { stdout = '', message } = error as Error & { stdout?: string }
    throw new Error(`Maven could not download Kafka ${kafkaVersion}: ${message}\n${stdout}`)
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

/** The second dependency connects Kafka's logging to log4j; without it a failed start says nothing. */
const pom = `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>fleetbridge</groupId><artifactId>test-kafka</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>${kafkaVersion}</version></dependency>
    <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>2.24.3</version></dependency>
  </dependencies>
</project>
`
