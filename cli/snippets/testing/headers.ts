/** What the programs for microcontrollers use of their platforms, as those declare it: enough for a compiler to check names, types and counts. */
export const espIdfHeaders: Readonly<Record<string, string>> = {
  'esp_err.h': `#pragma once
typedef int esp_err_t;
#define ESP_OK 0
#define ESP_ERROR_CHECK(call) do { if ((call) != ESP_OK) __builtin_trap(); } while (0)`,
  'esp_event.h': `#pragma once
#include <stdint.h>
#include "esp_err.h"
typedef const char *esp_event_base_t;
typedef void (*esp_event_handler_t)(void *arg, esp_event_base_t base, int32_t id, void *data);
esp_err_t esp_event_loop_create_default(void);`,
  'esp_log.h': `#pragma once
void esp_log_write(const char *tag, const char *format, ...) __attribute__((format(printf, 2, 3)));
#define ESP_LOGW(tag, ...) esp_log_write(tag, __VA_ARGS__)`,
  'esp_netif.h': `#pragma once
#include "esp_err.h"
esp_err_t esp_netif_init(void);`,
  'esp_netif_sntp.h': `#pragma once
#include <stdint.h>
#include "esp_err.h"
typedef struct { const char *servers[1]; } esp_sntp_config_t;
#define ESP_NETIF_SNTP_DEFAULT_CONFIG(server) { .servers = { server } }
esp_err_t esp_netif_sntp_init(const esp_sntp_config_t *config);
esp_err_t esp_netif_sntp_sync_wait(uint32_t ticks);`,
  'esp_random.h': `#pragma once
#include <stdint.h>
uint32_t esp_random(void);`,
  'esp_crt_bundle.h': `#pragma once
#include "esp_err.h"
esp_err_t esp_crt_bundle_attach(void *conf);`,
  'nvs_flash.h': `#pragma once
#include "esp_err.h"
esp_err_t nvs_flash_init(void);`,
  'protocol_examples_common.h': `#pragma once
#include "esp_err.h"
esp_err_t example_connect(void);`,
  'freertos/FreeRTOS.h': `#pragma once
#include <stdint.h>
typedef int BaseType_t;
typedef unsigned UBaseType_t;
typedef uint32_t TickType_t;
#define pdTRUE 1
#define portMAX_DELAY 0xffffffffu
#define pdMS_TO_TICKS(ms) ((TickType_t)(ms))`,
  'freertos/task.h': `#pragma once
#include "FreeRTOS.h"
typedef struct tskTaskControlBlock *TaskHandle_t;
BaseType_t xTaskCreate(void (*code)(void *), const char *name, uint32_t stack, void *arg, UBaseType_t priority, TaskHandle_t *task);
uint32_t ulTaskNotifyTake(BaseType_t clear, TickType_t ticks);
BaseType_t xTaskNotifyGive(TaskHandle_t task);
void vTaskDelay(TickType_t ticks);`,
  'mqtt_client.h': `#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "esp_event.h"
typedef struct esp_mqtt_client *esp_mqtt_client_handle_t;
typedef enum { MQTT_EVENT_ANY = -1, MQTT_EVENT_ERROR = 0, MQTT_EVENT_CONNECTED, MQTT_EVENT_DISCONNECTED, MQTT_EVENT_DATA } esp_mqtt_event_id_t;
typedef enum { MQTT_TRANSPORT_UNKNOWN, MQTT_TRANSPORT_OVER_TCP, MQTT_TRANSPORT_OVER_SSL } esp_mqtt_transport_t;
typedef struct { char *data; int data_len; } *esp_mqtt_event_handle_t;
typedef struct {
  struct {
    struct { const char *uri; const char *hostname; esp_mqtt_transport_t transport; uint32_t port; } address;
    struct { esp_err_t (*crt_bundle_attach)(void *conf); const char *certificate; } verification;
  } broker;
  struct { const char *username; const char *client_id; struct { const char *password; } authentication; } credentials;
  struct { bool disable_clean_session; int keepalive; int message_retransmit_timeout; } session;
  struct { int timeout_ms; bool disable_auto_reconnect; } network;
  struct { int size; } buffer;
  struct { uint64_t limit; } outbox;
} esp_mqtt_client_config_t;
esp_mqtt_client_handle_t esp_mqtt_client_init(const esp_mqtt_client_config_t *config);
esp_err_t esp_mqtt_client_start(esp_mqtt_client_handle_t client);
esp_err_t esp_mqtt_client_reconnect(esp_mqtt_client_handle_t client);
esp_err_t esp_mqtt_client_register_event(esp_mqtt_client_handle_t client, esp_mqtt_event_id_t event, esp_event_handler_t handler, void *arg);
int esp_mqtt_client_subscribe(esp_mqtt_client_handle_t client, const char *topic, int qos);
int esp_mqtt_client_enqueue(esp_mqtt_client_handle_t client, const char *topic, const char *data, int len, int qos, int retain, bool store);`,
}

export const arduinoHeaders: Readonly<Record<string, string>> = {
  // The IDE puts this before every sketch.
  'Arduino.h': `#pragma once
#include <stdint.h>
#include <stdio.h>
class String { public: const char *c_str() const; };
class HardwareSerial { public: void begin(unsigned long baud); void println(const String &text); void println(const char *text); };
extern HardwareSerial Serial;
unsigned long millis();
void delay(uint32_t ms);
long random(long from, long to);
void configTime(long offset, int daylight, const char *server);
class Client { public: virtual ~Client() {} };`,
  'WiFi.h': `#pragma once
#include "Arduino.h"
typedef enum { WL_CONNECTED = 3 } wl_status_t;
class WiFiClass { public: wl_status_t begin(const char *ssid, const char *password); wl_status_t status(); };
extern WiFiClass WiFi;
class WiFiClient : public Client {};`,
  'WiFiClientSecure.h': `#pragma once
#include "WiFi.h"
class WiFiClientSecure : public WiFiClient { public: void setCACert(const char *pem); };`,
  'MQTT.h': `#pragma once
#include "Arduino.h"
class MQTTClient {
 public:
  explicit MQTTClient(int bufferSize = 128);
  void begin(const char host[], int port, Client &client);
  void onMessage(void (*callback)(String &topic, String &payload));
  void setKeepAlive(int seconds);
  void setCleanSession(bool clean);
  void setTimeout(int ms);
  bool connect(const char id[], const char user[], const char password[], bool skip = false);
  bool publish(const char topic[], const char payload[], bool retained, int qos);
  bool subscribe(const char topic[]);
  bool loop();
  bool connected();
};`,
}
