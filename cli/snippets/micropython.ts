import { inComment, pythonString } from './literals.ts'
import type { SnippetFacts } from './snippet.ts'

/** umqtt.simple has a keep alive of 0, waits for a PUBACK without end, and does not wrap its packet identifiers. */
export function micropython({ host, mqttPort, mqttTlsPort, ca, device, token }: SnippetFacts): string {
  const tls = mqttTlsPort !== undefined
  return `# fleetbridge: device ${inComment(device)} with MicroPython 1.23 or newer. The token below is shown this once.
# Library: mpremote mip install umqtt.simple
import json
import random
import time
${tls ? 'import binascii\nimport ssl\n' : ''}
import machine
import network
import ntptime
from umqtt.simple import MQTTClient

SSID = "your network"
WIFI_PASSWORD = "its password"
HOST = ${pythonString(host)}
PORT = ${mqttTlsPort ?? mqttPort}
DEVICE = ${pythonString(device)}
TOKEN = ${pythonString(token)}
${tls ? `CA = ${encoded(ca?.pem ?? '')}  # the authority of the gateway's certificate\n` : ''}TIMEOUT = 15  # seconds; the gateway may hold a message for 10 before it answers
UNIX = 946684800 if time.gmtime(0)[0] == 2000 else 0  # many boards count from 2000


class Client(MQTTClient):
    def wait_msg(self):
        # umqtt ends its timeout at the first byte that it reads, and then would wait for a PUBACK for ever.
        if hasattr(self.sock, "settimeout"):
            self.sock.settimeout(TIMEOUT)
        return super().wait_msg()

    def send(self, message):
        if self.pid >= 65000:  # it does not wrap them, and 0 is no packet identifier
            self.pid = 0
        self.publish(b"devices/me/telemetry", message, qos=1)  # returns at the PUBACK


def on_notice(topic, message):  # why a message was refused or parked
    print(message.decode())


def new_client():
${
  tls
    ? `    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_mode = ssl.CERT_REQUIRED
    for certificate in CA:
        context.load_verify_locations(cadata=binascii.a2b_base64(certificate))
    client = Client(DEVICE.encode(), HOST, PORT, DEVICE.encode(), TOKEN.encode(), keepalive=60, ssl=context)`
    : `    # Not encrypted. When the gateway has TLS: its port (8883), and ssl=an SSLContext with its authority.
    client = Client(DEVICE.encode(), HOST, PORT, DEVICE.encode(), TOKEN.encode(), keepalive=60)`
}
    client.set_callback(on_notice)
    client.connect(clean_session=False, timeout=TIMEOUT)
    client.subscribe(b"devices/me/errors")
    return client


def connect_network():
    wlan = network.WLAN(network.STA_IF)
    wlan.active(True)
    if not wlan.isconnected():
        wlan.connect(SSID, WIFI_PASSWORD)
        for _ in range(20):
            if wlan.isconnected():
                break
            time.sleep(1)
    try:
        ntptime.settime()  # the readings' time${tls ? ", and the certificate's" : ''}
    except OSError as error:
        print("no time:", error)


def new_message():
    message = {"values": {"temperature": 21.5}}
    now = time.time() + UNIX
    if now > 1700000000:  # the clock was set; without it the gateway takes the time of arrival
        message["ts"] = now
    return json.dumps(message).encode()


def run():
    watchdog = machine.WDT(timeout=120000)  # restarts a board that hangs, as over a dead link with TLS
    client = None
    back_off = 1
    waiting = []  # what was not acknowledged yet
    while True:
        watchdog.feed()
        waiting = waiting[-99:] + [new_message()]
        try:
            if client is None:
                connect_network()
                client = new_client()
                back_off = 1
            while waiting:
                client.send(waiting[0])  # sent again it has the same time, so it is stored once
                waiting.pop(0)
            time.sleep(10)
        except Exception as error:
            print("lost:", error)
            client = None
            # Longer each time, and half of it by chance: a fleet must not come back in one second.
            time.sleep(back_off * (1 + random.random()) / 2)
            back_off = min(back_off * 2, 60)


run()
`
}

/** A list of certificates in base64: not every board is built with a reader of PEM. */
function encoded(pem: string): string {
  const bodies = [...pem.matchAll(/-----BEGIN CERTIFICATE-----([\s\S]*?)-----END CERTIFICATE-----/g)]
  const lines = bodies.map(([, body]) => `    """${(body ?? '').trim()}""",`)
  return `[\n${lines.join('\n')}\n]`
}
