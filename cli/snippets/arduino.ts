import { cLines, cString, inComment } from './literals.ts'
import type { SnippetFacts } from './snippet.ts'

/** By a library that publishes with QoS 1: PubSubClient cannot, so its readings are lost without a word. */
export function arduino({ host, mqttPort, mqttTlsPort, ca, device, token }: SnippetFacts): string {
  const tls = mqttTlsPort !== undefined
  return String.raw`// fleetbridge: device ${inComment(device)} with Arduino on an ESP32. The token below is shown this once.
// Library: MQTT by Joël Gähwiler (256dpi/arduino-mqtt). Not PubSubClient: it publishes with QoS 0 only, and nobody
// tells it that a message was lost. ArduinoMqttClient can do QoS 1 as well.
#include <MQTT.h>
#include <WiFi.h>
${tls ? '#include <WiFiClientSecure.h>\n' : ''}#include <sys/time.h>

const char ssid[] = "your network";
const char wifiPassword[] = "its password";
const char host[] = ${cString(host)};
const int port = ${mqttTlsPort ?? mqttPort};
const char device[] = ${cString(device)};
const char token[] = ${cString(token)};
${tls ? `const char ca[] =\n${cLines(ca?.pem ?? '')};\n` : ''}
struct Reading {
  int64_t ts; // milliseconds
  float temperature;
};
Reading waiting[64]; // what was not acknowledged yet; when it is full the oldest goes
size_t oldest = 0, count = 0;

${tls ? 'WiFiClientSecure net;' : 'WiFiClient net; // not encrypted. When the gateway has TLS: WiFiClientSecure, net.setCACert(its authority), port 8883'}
MQTTClient client(512); // the default of 128 bytes drops what we tell on the errors topic
uint32_t backOffMs = 1000, nextTryMs = 0, lastReadingMs = 0;

// Why a message was refused or parked.
void onNotice(String &topic, String &payload) { Serial.println(payload); }

int64_t nowMs() {
  struct timeval now;
  gettimeofday(&now, nullptr);
  return (int64_t)now.tv_sec * 1000 + now.tv_usec / 1000;
}

void keep(Reading reading) {
  waiting[(oldest + count) % 64] = reading;
  if (count < 64) count++;
  else oldest = (oldest + 1) % 64;
}

// True once the gateway has acknowledged it. Sent again it has the same time, so it is stored once.
bool publishReading(const Reading &reading) {
  char message[128];
  snprintf(message, sizeof message, "{\"ts\":%lld,\"values\":{\"temperature\":%.2f}}", (long long)reading.ts,
           reading.temperature);
  return client.publish("devices/me/telemetry", message, false, 1);
}

// Longer each time, and half of it by chance: a fleet that lost its gateway must not come back in one second.
void connectWhenDue() {
  if (WiFi.status() != WL_CONNECTED || (int32_t)(millis() - nextTryMs) < 0) return;
  if (client.connect(device, device, token)) {
    backOffMs = 1000;
    client.subscribe("devices/me/errors");
    return;
  }
  nextTryMs = millis() + random(backOffMs / 2, backOffMs);
  backOffMs = backOffMs < 32000 ? backOffMs * 2 : 64000;
}

void setup() {
  Serial.begin(115200);
  WiFi.begin(ssid, wifiPassword);
  configTime(0, 0, "pool.ntp.org"); // the readings' time${tls ? ", and the certificate's" : ''}
${tls ? '  net.setCACert(ca);\n' : ''}  client.begin(host, port, net);
  client.onMessage(onNotice);
  client.setKeepAlive(60);
  client.setCleanSession(false);
  client.setTimeout(12000); // the gateway may hold a message for 10 s before it answers
}

void loop() {
  if (!client.loop()) connectWhenDue();
  if (millis() - lastReadingMs >= 10000) {
    lastReadingMs = millis();
    keep({nowMs(), 21.5f});
  }
  while (count > 0 && client.connected() && publishReading(waiting[oldest])) {
    oldest = (oldest + 1) % 64;
    count--;
  }
  delay(10);
}
`
}
