import type { SnippetFacts } from '../snippet.ts'

/** An authority as `openssl req -x509` makes one, and a certificate that it signed for gateway.example; nobody has kept their keys. */
export const authorityPem = `-----BEGIN CERTIFICATE-----
MIIBhjCCASugAwIBAgIUOF6JPrfJ9moqYfOeNC/zexQzWncwCgYIKoZIzj0EAwIw
FzEVMBMGA1UEAwwMYW4gYXV0aG9yaXR5MCAXDTI2MTEyNTE0MTYzM1oYDzIxMjYx
MTAxMTQxNjMzWjAXMRUwEwYDVQQDDAxhbiBhdXRob3JpdHkwWTATBgcqhkjOPQIB
BggqhkjOPQMBBwNCAAR4Qr1JtIVkqaamHotqOJH7M9prflclo0eQOIzcBgCbcIYh
pB4LTAXtLZKBRveJdXUbayYFSUOKv2NUCB2NaqV/o1MwUTAdBgNVHQ4EFgQU/QJQ
7VrK+TzIn3VRtsaZSuO30AQwHwYDVR0jBBgwFoAU/QJQ7VrK+TzIn3VRtsaZSuO3
0AQwDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNJADBGAiEAi/pLb1tDpYdN
RRV4PUUuZilSHqptk4pbjpgCwgYeozUCIQCEeH7r7KDMOlwyIJ57IgqGgehhW0uB
DofJcevERCrZfg==
-----END CERTIFICATE-----
`
export const gatewayPem = `-----BEGIN CERTIFICATE-----
MIIBnzCCAUSgAwIBAgIURbYd5+ZCnm1gXoytuT18s+BDMmcwCgYIKoZIzj0EAwIw
FzEVMBMGA1UEAwwMYW4gYXV0aG9yaXR5MCAXDTI2MTEyNTE0MTYzM1oYDzIxMjYx
MTAxMTQxNjMzWjAaMRgwFgYDVQQDDA9nYXRld2F5LmV4YW1wbGUwWTATBgcqhkjO
PQIBBggqhkjOPQMBBwNCAAQp75lla1yUapxxWnwiGSW6lyWw2Yc1Y7wiZKfm4F2B
mAvAu3hwm7oVWt+188PjObL+tOxHziDa2TdhKkRXQKOxo2kwZzAaBgNVHREEEzAR
gg9nYXRld2F5LmV4YW1wbGUwCQYDVR0TBAIwADAdBgNVHQ4EFgQU3GC5GzM3H0Md
NClx8pyWL/lBXWMwHwYDVR0jBBgwFoAU/QJQ7VrK+TzIn3VRtsaZSuO30AQwCgYI
KoZIzj0EAwIDSQAwRgIhAKSQuNzRCrtilZYLQUhyX83GX5aZM1tO6SNkyvuPRTfD
AiEAx9njMJNAyuDW7T3H5bCNNiWemu8Whpa6+FX+PF4rrAs=
-----END CERTIFICATE-----
`

export const plainFacts: SnippetFacts = {
  host: 'gateway.example',
  mqttPort: 1883,
  httpUrl: 'http://gateway.example:8080',
  device: 'pump-1',
  token: 'the-token-that-devices-add-prints',
}

export const tlsFacts: SnippetFacts = {
  ...plainFacts,
  mqttTlsPort: 8883,
  httpsUrl: 'https://gateway.example:8443',
  ca: { file: 'ca.pem', pem: authorityPem },
}

/** Where programs end when a name is pasted into them as it is. */
export const hostileDevices = [
  `quote"and'both`,
  'backslash\\',
  'percent %s %n',
  '??/trigraph ??=',
  '$(touch owned) `touch owned` $TOKEN',
  "'; touch owned; '",
  '*/ // # """ \'\'\'',
  '{braces} $dollar %(name)s',
  'pümpe-Ω-泵-🚰',
  'turned\u202eround',
  'line\u2028separator\u2029',
  '\\n\\x41\\101\\u0041',
]
