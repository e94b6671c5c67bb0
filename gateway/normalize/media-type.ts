/** A content type without its parameters, in lower case. */
export function mediaTypeOf(contentType: string | undefined): string | undefined {
  // By far the most frequent one, as clients send it.
  if (contentType === undefined || contentType === 'application/json') return contentType
  const end = contentType.indexOf(';')
  return (end < 0 ? contentType : contentType.slice(0, end)).trim().toLowerCase()
}
