/* A stand-in for libnvidia-ml.so.1, for machines without a GPU.
 *
 * The real pynvml loads it, so struct layouts, size-then-data calls, error codes and missing symbols
 * are the real ones. What it answers is in the file named by STANDIN_NVML_SCRIPT, read anew whenever
 * that file is another one: a test changes the world with os.replace(). One line each:
 *
 *   driver 570.86.15
 *   cuda 12080
 *   gpu 0 uuid=GPU-a name=NVIDIA_H100 total=81920 used=1024 ...   numbers: NUMBERS in world.h; _ is a space
 *   mig 0 2 uuid=MIG-a gi=3 ci=0 gi_slices=1 total=9984 ...       GPU, slot from 0
 *   process 0 4242 1024              GPU (or GPU/MIG slot), pid, MiB
 *   used 0 4242 87 300               GPU, pid, percent, how many ms ago; 0 when left out
 *   nvlink 0 3 00000000:0B:00.0      GPU, link, what the link ends in; `switch` for an NVSwitch
 *   ancestor 0 1 20                  nvmlGpuTopologyLevel_t; 50 (SYSTEM) without a line
 *   xid 0 79                         told once; two more numbers are the GPU and compute instance
 *   event 0 256                      any other event, by its bit; told once
 *   fail 0 nvmlDeviceGetPowerUsage 3 GPU or *, function or *, code
 *   delay 0 nvmlDeviceGetPowerUsage 30       takes so many ms
 *   hang 0 nvmlDeviceGetUtilizationRates     never returns
 *   exit * nvmlDeviceGetCount_v2             ends the process, as the library may
 */
#define _GNU_SOURCE
#include "world.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

int opened;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static World empty, *now = &empty;
static struct stat seen;
static int told; /* how many of this world's Xids */

#define AS_NAME(name) #name,
static const char *const number_names[] = {NUMBERS(AS_NAME)};

static void set(Device *device, const char *key, char *value) {
  struct { const char *key; char *text; size_t room; } texts[] = {
      {"uuid", device->uuid, sizeof device->uuid}, {"name", device->name, sizeof device->name},
      {"bus", device->bus, sizeof device->bus}, {"serial", device->serial, sizeof device->serial}};
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
    if (!strcmp(key, texts[i].key)) snprintf(texts[i].text, texts[i].room, "%s", value);
  if (!strcmp(key, "name"))
    for (char *at = device->name; *at; at++)
      if (*at == '_') *at = ' ';
  for (int i = 0; i < NUMBER_COUNT; i++)
    if (!strcmp(key, number_names[i])) device->number[i] = strtoull(value, NULL, 10);
}

static void read_device(Device *device, char *words) {
  device->exists = 1;
  for (int i = 0; i < NUMBER_COUNT; i++) device->number[i] = ABSENT;
  char *rest = NULL;
  for (char *word = strtok_r(words, " \n", &rest); word; word = strtok_r(NULL, " \n", &rest)) {
    char *value = strchr(word, '=');
    if (!value) continue;
    *value++ = 0;
    set(device, word, value);
  }
}

static void read_rule(World *world, const char *act, int gpu, const char *function, const char *code) {
  if (world->rule_count == RULES) return;
  Rule *rule = &world->rule[world->rule_count++];
  rule->act = *act, rule->gpu = gpu, rule->code = atoi(code);
  snprintf(rule->function, sizeof rule->function, "%s", function);
}

static void read_line(World *world, char *line) {
  char act[16], first[64], second[64] = "", third[64] = "", fourth[64] = "";
  int one = 0, two = 0;
  if (sscanf(line, "%15s %63s%n %63s%n %63s %63s", act, first, &one, second, &two, third, fourth) < 2) return;
  int gpu = *first == '*' ? -1 : atoi(first), number = atoi(second);
  if (*act == '#') return;
  if (!strcmp(act, "driver")) { snprintf(world->driver, sizeof world->driver, "%s", first); return; }
  if (!strcmp(act, "cuda")) { world->cuda = gpu; return; }
  if (gpu >= GPUS) return;
  const char *slash = strchr(first, '/');
  Device *device = &world->device[gpu < 0 ? 0 : gpu][slash ? 1 + atoi(slash + 1) % (SLOTS - 1) : 0];
  if (!strcmp(act, "gpu")) {
    read_device(device, line + one);
    if (gpu >= world->gpu_count) world->gpu_count = gpu + 1;
  } else if (!strcmp(act, "mig")) read_device(&world->device[gpu][1 + number % (SLOTS - 1)], line + two);
  else if (!strcmp(act, "nvlink")) snprintf(device->link[number % LINKS], 40, "%.39s", third);
  else if (!strcmp(act, "ancestor"))
    world->ancestor[gpu][number % GPUS] = world->ancestor[number % GPUS][gpu] = atoi(third);
  else if (!strcmp(act, "process") && device->held_count < PROCESSES)
    device->held[device->held_count++] = (Held){(unsigned)strtoul(second, NULL, 10), strtoull(third, NULL, 10)};
  else if (!strcmp(act, "used") && device->used_count < PROCESSES)
    device->used[device->used_count++] = (Used){(unsigned)strtoul(second, NULL, 10), (unsigned)atoi(third), atoll(fourth)};
  else if (!strcmp(act, "xid") && world->xid_count < XIDS)
    world->xid[world->xid_count++] =
        (Xid){gpu, (uint64_t)number, *third ? (unsigned)atoi(third) : ~0u, *fourth ? (unsigned)atoi(fourth) : ~0u, 8};
  else if (!strcmp(act, "event") && world->xid_count < XIDS)
    world->xid[world->xid_count++] = (Xid){gpu, 0, ~0u, ~0u, (uint64_t)number};
  else if (strstr("fail delay hang exit", act)) read_rule(world, act, gpu, second, third);
}

World *world_now(void) {
  const char *path = getenv("STANDIN_NVML_SCRIPT");
  struct stat fresh;
  pthread_mutex_lock(&lock);
  if (path && !stat(path, &fresh) &&
      (fresh.st_ino != seen.st_ino || fresh.st_mtim.tv_nsec != seen.st_mtim.tv_nsec)) {
    FILE *file = fopen(path, "r");
    World *world = file ? calloc(1, sizeof *world) : NULL;
    if (world) {
      seen = fresh;
      for (int i = 0; i < GPUS; i++)
        for (int j = 0; j < GPUS; j++) world->ancestor[i][j] = 50;
      char line[1024];
      while (fgets(line, sizeof line, file)) read_line(world, line);
      now = world, told = 0;
    }
    if (file) fclose(file);
  }
  World *world = now;
  pthread_mutex_unlock(&lock);
  return world;
}

int obey(World *world, int gpu, const char *function) {
  for (int i = 0; i < world->rule_count; i++) {
    Rule *rule = &world->rule[i];
    if (rule->gpu >= 0 && rule->gpu != gpu) continue;
    if (strcmp(rule->function, "*") && strcmp(rule->function, function)) continue;
    if (rule->act == 'h') for (;;) pause();
    if (rule->act == 'e') exit(1);
    if (rule->act == 'f') return rule->code;
    struct timespec pause_for = {rule->code / 1000, rule->code % 1000 * 1000000L};
    nanosleep(&pause_for, NULL);
  }
  return SUCCESS;
}

Xid *next_xid(World *world) {
  Xid *xid = NULL;
  pthread_mutex_lock(&lock);
  if (world == now && told < world->xid_count) xid = &world->xid[told++];
  pthread_mutex_unlock(&lock);
  return xid;
}
