import { rebirthCommand } from './sparkplug-payload.ts'

type Publish = (tenant: string, topic: string, payload: Buffer) => void

/** Asks Sparkplug edge nodes for their births: on the topic to which every node has to subscribe before it says anything (Sparkplug 3.0, §5.6). */
export class Rebirths {
  /** Messages may come before there is a way to answer; the node is asked again for a later one. */
  #publish: Publish = () => {}

  publishBy(publish: Publish): void {
    this.#publish = publish
  }

  /** @param node `GROUP/NODE` */
  ask(tenant: string, node: string): void {
    const slash = node.indexOf('/')
    this.#publish(tenant, `spBv1.0/${node.slice(0, slash)}/NCMD/${node.slice(slash + 1)}`, rebirthCommand(Date.now()))
  }
}
