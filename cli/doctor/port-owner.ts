import { readdirSync, readFileSync, readlinkSync } from 'node:fs'

export interface PortOwner {
  readonly pid: number
  /** Its words, as far as they say what runs. */
  readonly command: string
}

const listening = '0A'
const longestCommand = 80

/** Who listens on a TCP port of this machine, by /proc; undefined where that is not to be seen (another user's process, no Linux). */
export function ownerOfPort(port: number): PortOwner | undefined {
  const inodes = listeningInodes(port)
  if (inodes.size === 0) return undefined
  for (const name of entries('/proc')) {
    if (!/^\d+$/.test(name)) continue
    for (const descriptor of entries(`/proc/${name}/fd`))
      if (inodes.has(socketInode(`/proc/${name}/fd/${descriptor}`)))
        return { pid: Number(name), command: commandOf(name) }
  }
  return undefined
}

/** proc_net(5): the fields are sl, local_address, rem_address, st, …, and the tenth is the inode. */
function listeningInodes(port: number): Set<string> {
  const inodes = new Set<string>()
  const wanted = `:${port.toString(16).toUpperCase().padStart(4, '0')}`
  for (const file of ['/proc/net/tcp', '/proc/net/tcp6'])
    for (const row of text(file).split('\n')) {
      const fields = row.trim().split(/\s+/)
      if (fields[1]?.endsWith(wanted) && fields[3] === listening) inodes.add(fields[9] as string)
    }
  return inodes
}

function socketInode(path: string): string {
  try {
    return /^socket:\[(\d+)\]$/.exec(readlinkSync(path))?.[1] ?? ''
  } catch {
    return '' // closed meanwhile
  }
}

function commandOf(pid: string): string {
  const words = text(`/proc/${pid}/cmdline`).split('\0').join(' ').trim()
  return words.length > longestCommand ? `${words.slice(0, longestCommand)}…` : words
}

function entries(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch {
    return []
  }
}

function text(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
