/* A stand-in for libnvidia-ml.so.1, for machines without a GPU.
 *
 * The real pynvml loads it, so struct layouts, size-then-data calls, error codes and missing symbols
 * are the real ones. What it answers is in the file named by STANDIN_NVML_SCRIPT, read anew whenever
 * that file is another one: a test changes the world with os.replace().
 *
 *   driver 570.86.15
 *   cuda 12080
 *   gpu 0 uuid=GPU-a name=H100 bus=00000000:0A:00.0 total=81920 used=1024 reserved=512 util=37
 *         power=250500 energy=9000 temperature=41 sm=1980 memory=2619 reasons=4     (one line)
 *   process 0 4242 1024              GPU, pid, MiB
 *   nvlink 0 3 00000000:0B:00.0      GPU, link, what the link ends in
 *   ancestor 0 1 20                  nvmlGpuTopologyLevel_t; 50 (SYSTEM) without a line
 *   fail 0 nvmlDeviceGetPowerUsage 3 GPU or *, function or *, code
 *   hang 0 nvmlDeviceGetUtilizationRates     never returns
 *   exit * nvmlDeviceGetCount_v2             ends the process, as the library may
 *
 * Built with -DOLD_DRIVER it lacks the symbols that drivers of 2020 lack.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID = 2, NOT_SUPPORTED = 3, TOO_SMALL = 7 };
enum { GPUS = 8, LINKS = 18, PROCESSES = 16, RULES = 32 };

typedef struct {
  int index, processes;
  char uuid[96], name[96], bus[32], link[LINKS][32];
  unsigned long long total, used, reserved, energy, reasons;
  unsigned util, power, temperature, sm, memory, pid[PROCESSES];
  unsigned long long held[PROCESSES];
} Gpu;

typedef struct {
  char act, function[64];
  int gpu, code;
} Rule;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Gpu gpus[GPUS];
static Rule rules[RULES];
static int gpu_count, rule_count, opened, ancestor[GPUS][GPUS], cuda;
static char driver[80];
static struct stat seen;

static void set(Gpu *gpu, const char *key, char *value) {
  struct { const char *key; unsigned *field; } numbers[] = {
      {"util", &gpu->util}, {"power", &gpu->power}, {"temperature", &gpu->temperature},
      {"sm", &gpu->sm}, {"memory", &gpu->memory}};
  struct { const char *key; unsigned long long *field; } wide[] = {
      {"total", &gpu->total}, {"used", &gpu->used}, {"reserved", &gpu->reserved},
      {"energy", &gpu->energy}, {"reasons", &gpu->reasons}};
  if (!strcmp(key, "uuid")) snprintf(gpu->uuid, sizeof gpu->uuid, "%s", value);
  if (!strcmp(key, "name")) snprintf(gpu->name, sizeof gpu->name, "%s", value);
  if (!strcmp(key, "bus")) snprintf(gpu->bus, sizeof gpu->bus, "%s", value);
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
    if (!strcmp(key, numbers[i].key)) *numbers[i].field = (unsigned)strtoul(value, NULL, 10);
  for (size_t i = 0; i < sizeof wide / sizeof *wide; i++)
    if (!strcmp(key, wide[i].key)) *wide[i].field = strtoull(value, NULL, 10);
}

static void read_gpu(int index, char *words) {
  Gpu *gpu = &gpus[index];
  gpu->index = index;
  if (index >= gpu_count) gpu_count = index + 1;
  char *rest = NULL;
  for (char *word = strtok_r(words, " \n", &rest); word; word = strtok_r(NULL, " \n", &rest)) {
    char *value = strchr(word, '=');
    if (!value) continue;
    *value++ = 0;
    set(gpu, word, value);
  }
}

static void read_line(char *line) {
  char act[16], first[64], second[64] = "", third[64] = "";
  int end = 0;
  if (sscanf(line, "%15s %63s%n %63s %63s", act, first, &end, second, third) < 2 || *act == '#') return;
  int gpu = *first == '*' ? -1 : atoi(first);
  if (!strcmp(act, "driver")) snprintf(driver, sizeof driver, "%s", first);
  if (!strcmp(act, "cuda")) cuda = atoi(first);
  if (gpu >= GPUS || !strcmp(act, "driver") || !strcmp(act, "cuda")) return;
  if (!strcmp(act, "gpu")) read_gpu(gpu, line + end);
  else if (!strcmp(act, "nvlink")) snprintf(gpus[gpu].link[atoi(second) % LINKS], 32, "%.31s", third);
  else if (!strcmp(act, "ancestor"))
    ancestor[gpu][atoi(second) % GPUS] = ancestor[atoi(second) % GPUS][gpu] = atoi(third);
  else if (!strcmp(act, "process") && gpus[gpu].processes < PROCESSES) {
    gpus[gpu].pid[gpus[gpu].processes] = (unsigned)atoi(second);
    gpus[gpu].held[gpus[gpu].processes++] = strtoull(third, NULL, 10) << 20;
  } else if (rule_count < RULES) {
    Rule *rule = &rules[rule_count++];
    rule->act = *act, rule->gpu = gpu, rule->code = atoi(third);
    snprintf(rule->function, sizeof rule->function, "%s", second);
  }
}

static void read_script(void) {
  const char *path = getenv("STANDIN_NVML_SCRIPT");
  struct stat now;
  if (!path || stat(path, &now) || (now.st_ino == seen.st_ino && now.st_mtim.tv_nsec == seen.st_mtim.tv_nsec))
    return;
  FILE *file = fopen(path, "r");
  if (!file) return;
  seen = now;
  memset(gpus, 0, sizeof gpus);
  gpu_count = rule_count = 0;
  for (int i = 0; i < GPUS; i++)
    for (int j = 0; j < GPUS; j++) ancestor[i][j] = 50;
  char line[1024];
  while (fgets(line, sizeof line, file)) read_line(line);
  fclose(file);
}

/* Every call enters here: the script's rule for it, or SUCCESS. */
static int enter(int gpu, const char *function) {
  Rule rule = {0};
  pthread_mutex_lock(&lock);
  read_script();
  for (int i = 0; i < rule_count; i++)
    if ((rules[i].gpu < 0 || rules[i].gpu == gpu) &&
        (!strcmp(rules[i].function, "*") || !strcmp(rules[i].function, function))) {
      rule = rules[i];
      break;
    }
  pthread_mutex_unlock(&lock);
  if (rule.act == 'h') for (;;) pause();
  if (rule.act == 'e') exit(1);
  return rule.act == 'f' ? rule.code : SUCCESS;
}

#define ENTER(gpu)                                                        \
  do {                                                                    \
    int code = enter(gpu, __func__);                                      \
    if (code) return code;                                                \
    if (!opened) return UNINITIALIZED;                                    \
  } while (0)

static int give(char *buffer, unsigned length, const char *text) {
  if (strlen(text) >= length) return TOO_SMALL;
  strcpy(buffer, text);
  return SUCCESS;
}

int nvmlInitWithFlags(unsigned flags) {
  (void)flags;
  int code = enter(-1, __func__);
  if (!code) opened++;
  return code;
}
int nvmlShutdown(void) {
  if (!opened) return UNINITIALIZED;
  opened--;
  return SUCCESS;
}
const char *nvmlErrorString(int code) {
  switch (code) {
    case 4: return "Insufficient Permissions";
    case 15: return "GPU is lost";
    case 18: return "Driver/library version mismatch";
    default: return "stand-in error";
  }
}
int nvmlSystemGetDriverVersion(char *buffer, unsigned length) { ENTER(-1); return give(buffer, length, driver); }
int nvmlSystemGetCudaDriverVersion_v2(int *version) { ENTER(-1); *version = cuda; return SUCCESS; }
int nvmlDeviceGetCount_v2(unsigned *count) { ENTER(-1); *count = (unsigned)gpu_count; return SUCCESS; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, Gpu **handle) {
  ENTER((int)index);
  if ((int)index >= gpu_count) return INVALID;
  *handle = &gpus[index];
  return SUCCESS;
}
int nvmlDeviceGetUUID(Gpu *gpu, char *buffer, unsigned length) { ENTER(gpu->index); return give(buffer, length, gpu->uuid); }
int nvmlDeviceGetName(Gpu *gpu, char *buffer, unsigned length) { ENTER(gpu->index); return give(buffer, length, gpu->name); }
int nvmlDeviceGetCudaComputeCapability(Gpu *gpu, int *major, int *minor) { ENTER(gpu->index); *major = 9; *minor = 0; return SUCCESS; }

typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; } Pci;
int nvmlDeviceGetPciInfo_v3(Gpu *gpu, Pci *pci) {
  ENTER(gpu->index);
  memset(pci, 0, sizeof *pci);
  return give(pci->bus_id, sizeof pci->bus_id, gpu->bus);
}
int nvmlDeviceGetNvLinkState(Gpu *gpu, unsigned link, unsigned *active) {
  ENTER(gpu->index);
  if (link >= LINKS) return INVALID;
  *active = gpu->link[link][0] != 0;
  return SUCCESS;
}
int nvmlDeviceGetNvLinkRemotePciInfo_v2(Gpu *gpu, unsigned link, Pci *pci) {
  ENTER(gpu->index);
  if (link >= LINKS || !gpu->link[link][0]) return INVALID;
  memset(pci, 0, sizeof *pci);
  return give(pci->bus_id, sizeof pci->bus_id, gpu->link[link]);
}
int nvmlDeviceGetTopologyCommonAncestor(Gpu *gpu, Gpu *peer, int *level) {
  ENTER(gpu->index);
  *level = ancestor[gpu->index][peer->index];
  return SUCCESS;
}

typedef struct { unsigned gpu, memory; } Utilization;
int nvmlDeviceGetUtilizationRates(Gpu *gpu, Utilization *rates) { ENTER(gpu->index); rates->gpu = gpu->util; rates->memory = 0; return SUCCESS; }
typedef struct { unsigned long long total, free, used; } Memory;
int nvmlDeviceGetMemoryInfo(Gpu *gpu, Memory *memory) {
  ENTER(gpu->index);
  memory->total = gpu->total << 20;
  memory->used = (gpu->used + gpu->reserved) << 20;
  memory->free = memory->total - memory->used;
  return SUCCESS;
}
int nvmlDeviceGetPowerUsage(Gpu *gpu, unsigned *milliwatts) { ENTER(gpu->index); *milliwatts = gpu->power; return SUCCESS; }
int nvmlDeviceGetTemperature(Gpu *gpu, int sensor, unsigned *celsius) { ENTER(gpu->index); if (sensor) return INVALID; *celsius = gpu->temperature; return SUCCESS; }
int nvmlDeviceGetClockInfo(Gpu *gpu, int clock, unsigned *mhz) { ENTER(gpu->index); *mhz = clock == 2 ? gpu->memory : gpu->sm; return SUCCESS; }
int nvmlDeviceGetCurrentClocksThrottleReasons(Gpu *gpu, unsigned long long *reasons) { ENTER(gpu->index); *reasons = gpu->reasons; return SUCCESS; }

#ifndef OLD_DRIVER
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } MemoryV2;
int nvmlDeviceGetMemoryInfo_v2(Gpu *gpu, MemoryV2 *memory) {
  ENTER(gpu->index);
  if (memory->version != (sizeof(MemoryV2) | 2u << 24)) return 25; /* ARGUMENT_VERSION_MISMATCH */
  memory->total = gpu->total << 20;
  memory->reserved = gpu->reserved << 20;
  memory->used = gpu->used << 20;
  memory->free = memory->total - memory->used - memory->reserved;
  return SUCCESS;
}
int nvmlDeviceGetTotalEnergyConsumption(Gpu *gpu, unsigned long long *millijoules) { ENTER(gpu->index); *millijoules = gpu->energy; return SUCCESS; }
int nvmlDeviceGetCurrentClocksEventReasons(Gpu *gpu, unsigned long long *reasons) { ENTER(gpu->index); *reasons = gpu->reasons; return SUCCESS; }
typedef struct { unsigned pid; unsigned long long memory; unsigned gpu_instance, compute_instance; } Process;
int nvmlDeviceGetComputeRunningProcesses_v3(Gpu *gpu, unsigned *count, Process *processes) {
  ENTER(gpu->index);
  unsigned room = *count;
  *count = (unsigned)gpu->processes;
  if (!gpu->processes) return SUCCESS;
  if (room < *count || !processes) return TOO_SMALL;
  for (unsigned i = 0; i < *count; i++)
    processes[i] = (Process){gpu->pid[i], gpu->held[i], ~0u, ~0u};
  return SUCCESS;
}
#endif
