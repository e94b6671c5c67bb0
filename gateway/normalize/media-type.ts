/** A content type without its parameters, in lower case. */
export function mediaTypeOf(contentType: string | undefined): string | undefined {
  // By far the most frequent one, as clients send it.
  if (contentType === undefined || contentType === 'application/json') return contentType
  const end = contentType.indexOf(';')
  return (end < 0 ? contentType : contentType.slice(0, end)).trim().toLowerCase()
}

/** Whether a content type names a charset that is not UTF-8 or part of it: read as UTF-8, the bytes would say something else. */
export function hasForeignCharset(contentType: string | undefined): boolean {
  if (contentType === undefined || !/charset/i.test(contentType)) return false
  for (const [, quoted, bare = ''] of contentType.matchAll(/;\s*charset\s*=\s*(?:"([^"]*)"|([^;\s]*))/gi))
    if (!/^(utf-?8|us-ascii)$/i.test(quoted ?? bare)) return true
  return false
}
