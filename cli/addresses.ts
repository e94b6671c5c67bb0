/** How a program on this machine reaches a listener: one on every address is `localhost`. */
export function reachableHost(host: string): string {
  if (host === '0.0.0.0' || host === '::' || host === '127.0.0.1') return 'localhost'
  return host.includes(':') ? `[${host}]` : host
}

/** The ops port depends on what runs: gateway and worker often share a machine. */
export function opsPort(configured: number | undefined, process: 'gateway' | 'worker'): number {
  return configured ?? (process === 'worker' ? 8083 : 8081)
}
