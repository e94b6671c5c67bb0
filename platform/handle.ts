/** What every `startX` returns. `close()` waits for work in hand and may be called twice. */
export interface Handle extends AsyncDisposable {
  close(): Promise<void>
}

/** Makes a Handle of one closing step, which runs once however often it is asked for. */
export function handleOf(close: () => Promise<void>): Handle {
  let closing: Promise<void> | undefined
  const once = () => {
    closing ??= close()
    return closing
  }
  return { close: once, [Symbol.asyncDispose]: once }
}
