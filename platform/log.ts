import { type Logger, pino, stdTimeFunctions } from 'pino'
import pretty from 'pino-pretty'

export type Log = Logger

/** The log of a process: readable on a terminal, JSON lines otherwise; on standard error, so that standard output stays for programs. */
export function createLog(name: string, level: string): Log {
  const options = { name, level, timestamp: stdTimeFunctions.isoTime, base: { name, pid: process.pid } }
  if (!process.stderr.isTTY) return pino(options, pino.destination({ dest: 2, sync: false }))
  return pino(options, pretty({ destination: 2, ignore: 'pid,name,hostname', translateTime: 'SYS:HH:MM:ss.l' }))
}

/** For tests and for parts that run without a process log. */
export const silentLog: Log = pino({ level: 'silent' })
