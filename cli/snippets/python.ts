import { inComment, pythonString } from './literals.ts'
import type { SnippetFacts } from './snippet.ts'

/** Both ways in one program, since a script often begins with HTTP and ends with MQTT. */
export function python({ host, mqttPort, mqttTlsPort, httpUrl, httpsUrl, ca, device, token }: SnippetFacts): string {
  const tls = mqttTlsPort !== undefined || httpsUrl !== undefined
  const authority =
    ca === undefined ? 'None  # one that this system knows' : `${pythonString(ca.file)}  # copy it there`
  return `# fleetbridge: device ${inComment(device)} with Python 3.9 or newer. The token below is shown this once.
#   pip install paho-mqtt    python3 device.py mqtt
#   pip install requests     python3 device.py http
import json
import random
import sys
import time

HOST = ${pythonString(host)}
PORT = ${mqttTlsPort ?? mqttPort}
URL = ${pythonString(`${httpsUrl ?? httpUrl}/v1/telemetry`)}
DEVICE = ${pythonString(device)}
TOKEN = ${pythonString(token)}
${tls ? `CA_FILE = ${authority}\n` : '# Not encrypted. When the gateway has TLS: its ports (8883, https on 8443), client.tls_set(CA_FILE), verify=CA_FILE.\n'}

def reading():
    # With its own time a reading that is sent twice is stored once.
    return {"ts": time.time_ns() // 1_000_000, "values": {"temperature": 21.5}}


def mqtt():
    import paho.mqtt.client as paho

    client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=DEVICE, clean_session=False)
    client.username_pw_set(DEVICE, TOKEN)
${mqttTlsPort === undefined ? '' : '    client.tls_set(CA_FILE)\n'}    # It doubles the delay; beginning by chance keeps a fleet from coming back in one second.
    client.reconnect_delay_set(min_delay=1 + 4 * random.random(), max_delay=120)
    client.max_inflight_messages_set(20)
    client.max_queued_messages_set(10_000)

    def on_connect(client, userdata, flags, reason, properties):
        print("connected:", reason)
        if not reason.is_failure:
            client.subscribe("devices/me/errors")

    client.on_connect = on_connect
    client.on_connect_fail = lambda client, userdata: print("no connection yet")
    client.on_disconnect = lambda client, userdata, flags, reason, properties: print("lost:", reason)
    client.on_message = lambda client, userdata, notice: print("told:", notice.payload.decode())
    client.on_publish = lambda client, userdata, mid, reason, properties: print("acknowledged:", mid)
    client.connect_async(HOST, PORT, keepalive=60)
    client.loop_start()  # connects, and again whenever it must
    while True:
        sent = client.publish("devices/me/telemetry", json.dumps(reading()), qos=1)
        if sent.rc == paho.MQTT_ERR_QUEUE_SIZE:
            print("10,000 readings wait: this one was dropped")
        time.sleep(10)


def http():
    import requests
    from urllib3.util import Retry

    session = requests.Session()
    session.headers["Authorization"] = "Bearer " + TOKEN
    # POST as well: each try has the same time. Retry-After is obeyed.
    retry = Retry(total=8, backoff_factor=1, backoff_jitter=1, status_forcelist=[429, 503], allowed_methods=None)
    session.mount(URL, requests.adapters.HTTPAdapter(max_retries=retry))
    while True:
        try:
            answer = session.post(URL, json=reading(), timeout=(5, 15)${httpsUrl === undefined ? '' : ', verify=CA_FILE or True'})
            print(answer.status_code, answer.text)
        except requests.RequestException as error:
            print("lost:", error)
        time.sleep(10)


{"mqtt": mqtt, "http": http}[sys.argv[1] if len(sys.argv) > 1 else "mqtt"]()
`
}
