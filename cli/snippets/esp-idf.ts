import { cLines, cString, inComment } from './literals.ts'
import type { SnippetFacts } from './snippet.ts'

/** Its reconnect comes after 10 s without jitter, its resend after 1 s, and its outbox has no end: all three are set. */
export function espIdf({ host, mqttPort, mqttTlsPort, ca, device, token }: SnippetFacts): string {
  const tls = mqttTlsPort !== undefined
  const verification =
    ca === undefined
      ? '.broker.verification.crt_bundle_attach = esp_crt_bundle_attach, // a publicly known authority'
      : '.broker.verification.certificate = ca_pem,'
  return String.raw`// fleetbridge: device ${inComment(device)} with ESP-IDF 5.1 or newer (esp-mqtt). The token below is shown this once.
// Components: mqtt (espressif/mqtt), nvs_flash, and protocol_examples_common for example_connect().
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/time.h>
${tls && ca === undefined ? '#include "esp_crt_bundle.h"\n' : ''}#include "esp_err.h"
#include "esp_event.h"
#include "esp_log.h"
#include "esp_netif.h"
#include "esp_netif_sntp.h"
#include "esp_random.h"
#include "freertos/FreeRTOS.h"
#include "freertos/task.h"
#include "mqtt_client.h"
#include "nvs_flash.h"
#include "protocol_examples_common.h"

static const char *TAG = "fleetbridge";
${tls && ca !== undefined ? `static const char ca_pem[] =\n${cLines(ca.pem)};\n` : ''}static esp_mqtt_client_handle_t client;
static TaskHandle_t reconnector;
static volatile uint32_t back_off_ms = 1000;

static void on_mqtt(void *arg, esp_event_base_t base, int32_t id, void *data) {
    esp_mqtt_event_handle_t event = data;
    switch ((esp_mqtt_event_id_t)id) {
    case MQTT_EVENT_CONNECTED:
        back_off_ms = 1000;
        esp_mqtt_client_subscribe(client, "devices/me/errors", 0);
        break;
    case MQTT_EVENT_DISCONNECTED:
        xTaskNotifyGive(reconnector);
        break;
    case MQTT_EVENT_DATA: // why a message was refused or parked
        ESP_LOGW(TAG, "%.*s", event->data_len, event->data);
        break;
    default:
        break;
    }
}

// Longer each time, and half of it by chance: a fleet that lost its gateway must not come back in one second.
static void keep_connected(void *arg) {
    for (;;) {
        ulTaskNotifyTake(pdTRUE, portMAX_DELAY);
        uint32_t wait_ms = back_off_ms / 2 + esp_random() % (back_off_ms / 2);
        back_off_ms = back_off_ms < 32000 ? back_off_ms * 2 : 64000;
        vTaskDelay(pdMS_TO_TICKS(wait_ms));
        esp_mqtt_client_reconnect(client);
    }
}

// With its own time a reading that is sent twice is stored once. False: the outbox is full, keep the reading for later.
static bool send_reading(const char *metric, double value) {
    struct timeval now;
    gettimeofday(&now, NULL);
    char message[192];
    int length = snprintf(message, sizeof message, "{\"ts\":%" PRId64 ",\"values\":{\"%s\":%.3f}}",
                          (int64_t)now.tv_sec * 1000 + now.tv_usec / 1000, metric, value);
    if (length < 0 || length >= (int)sizeof message) return false;
    return esp_mqtt_client_enqueue(client, "devices/me/telemetry", message, length, 1, 0, true) >= 0;
}

void app_main(void) {
    ESP_ERROR_CHECK(nvs_flash_init());
    ESP_ERROR_CHECK(esp_netif_init());
    ESP_ERROR_CHECK(esp_event_loop_create_default());
    ESP_ERROR_CHECK(example_connect()); // your network, by menuconfig
    esp_sntp_config_t sntp = ESP_NETIF_SNTP_DEFAULT_CONFIG("pool.ntp.org");
    ESP_ERROR_CHECK(esp_netif_sntp_init(&sntp));
    esp_netif_sntp_sync_wait(pdMS_TO_TICKS(15000)); // the readings' time${tls ? ", and the certificate's" : ''}

    esp_mqtt_client_config_t config = {
        .broker.address.hostname = ${cString(host)},
        .broker.address.port = ${mqttTlsPort ?? mqttPort},
${
  tls
    ? `        .broker.address.transport = MQTT_TRANSPORT_OVER_SSL,\n        ${verification}`
    : `        .broker.address.transport = MQTT_TRANSPORT_OVER_TCP, // not encrypted. When the gateway has TLS: its port (8883),
        // MQTT_TRANSPORT_OVER_SSL, and .broker.verification.certificate = the PEM of its authority`
}
        .credentials.client_id = ${cString(device)},
        .credentials.username = ${cString(device)},
        .credentials.authentication.password = ${cString(token)},
        .session.keepalive = 60,
        .session.disable_clean_session = true,
        .session.message_retransmit_timeout = 10000, // 1 s would repeat what the gateway holds at a limit
        .network.timeout_ms = 10000,
        .network.disable_auto_reconnect = true, // keep_connected does it
        .buffer.size = 1024,
        .outbox.limit = 16 * 1024,
    };
    client = esp_mqtt_client_init(&config);
    xTaskCreate(keep_connected, "reconnect", 3072, NULL, 5, &reconnector);
    esp_mqtt_client_register_event(client, MQTT_EVENT_ANY, on_mqtt, NULL);
    ESP_ERROR_CHECK(esp_mqtt_client_start(client));
    for (;;) {
        if (!send_reading("temperature", 21.5)) ESP_LOGW(TAG, "outbox full");
        vTaskDelay(pdMS_TO_TICKS(10000));
    }
}
`
}
