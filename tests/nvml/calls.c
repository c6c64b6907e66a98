/* The calls about what GPUs are and do. Built with -DOLD_DRIVER, those that drivers of 2020 lack are
 * left out. */
#include "world.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static int give(char *buffer, unsigned length, const char *text) {
  if (!*text) return NOT_SUPPORTED;
  if (strlen(text) >= length) return TOO_SMALL;
  strcpy(buffer, text);
  return SUCCESS;
}

int nvmlInitWithFlags(unsigned flags) {
  (void)flags;
  int code = obey(world_now(), -1, __func__);
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

int nvmlSystemGetDriverVersion(char *buffer, unsigned length) { ENTER_SYSTEM(); return give(buffer, length, world->driver); }
int nvmlSystemGetCudaDriverVersion_v2(int *version) { ENTER_SYSTEM(); *version = world->cuda; return SUCCESS; }
int nvmlDeviceGetCount_v2(unsigned *count) { ENTER_SYSTEM(); *count = (unsigned)world->gpu_count; return SUCCESS; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, Handle *handle) {
  ENTER(handle_of((int)index, 0));
  *handle = handle_of((int)index, 0);
  return SUCCESS;
}

int nvmlDeviceGetUUID(Handle h, char *buffer, unsigned length) { ENTER(h); return give(buffer, length, gpu->uuid); }
int nvmlDeviceGetName(Handle h, char *buffer, unsigned length) { ENTER(h); return give(buffer, length, gpu->name); }
int nvmlDeviceGetSerial(Handle h, char *buffer, unsigned length) { ENTER(h); return give(buffer, length, gpu->serial); }
int nvmlDeviceGetCudaComputeCapability(Handle h, int *major, int *minor) {
  ENTER(h);
  uint64_t capability = gpu->number[N_capability];
  *major = capability == ABSENT ? 9 : (int)capability / 10;
  *minor = capability == ABSENT ? 0 : (int)capability % 10;
  return SUCCESS;
}
int nvmlDeviceGetPowerManagementLimit(Handle h, unsigned *milliwatts) { ENTER(h); GIVE(limit, milliwatts); }
int nvmlDeviceGetMaxClockInfo(Handle h, int clock, unsigned *mhz) { ENTER(h); if (clock != 1) return INVALID; GIVE(sm_max, mhz); }
int nvmlDeviceGetMaxPcieLinkGeneration(Handle h, unsigned *out) { ENTER(h); GIVE(gen_max, out); }
int nvmlDeviceGetMaxPcieLinkWidth(Handle h, unsigned *out) { ENTER(h); GIVE(width_max, out); }
int nvmlDeviceGetCurrPcieLinkGeneration(Handle h, unsigned *out) { ENTER(h); GIVE(gen, out); }
int nvmlDeviceGetCurrPcieLinkWidth(Handle h, unsigned *out) { ENTER(h); GIVE(width, out); }

typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; } Pci;
int nvmlDeviceGetPciInfo_v3(Handle h, Pci *pci) {
  ENTER(h);
  memset(pci, 0, sizeof *pci);
  return give(pci->bus_id, sizeof pci->bus_id, gpu->bus);
}
int nvmlDeviceGetNvLinkState(Handle h, unsigned link, unsigned *active) {
  ENTER(h);
  if (link >= LINKS) return INVALID;
  *active = gpu->link[link][0] != 0;
  return SUCCESS;
}
int nvmlDeviceGetNvLinkRemotePciInfo_v2(Handle h, unsigned link, Pci *pci) {
  ENTER(h);
  if (link >= LINKS || !gpu->link[link][0]) return INVALID;
  memset(pci, 0, sizeof *pci);
  int is_switch = !strcmp(gpu->link[link], "switch");
  return give(pci->bus_id, sizeof pci->bus_id, is_switch ? "00000000:C0:00.0" : gpu->link[link]);
}
int nvmlDeviceGetTopologyCommonAncestor(Handle h, Handle peer, int *level) {
  ENTER(h);
  *level = world->ancestor[gpu_of(h)][gpu_of(peer)];
  return SUCCESS;
}

typedef struct { unsigned gpu, memory; } Utilization;
int nvmlDeviceGetUtilizationRates(Handle h, Utilization *rates) {
  ENTER(h);
  if (gpu->number[N_busy] != ABSENT) rates->memory = (unsigned)gpu->number[N_busy];
  else rates->memory = 0;
  GIVE(util, &rates->gpu);
}
typedef struct { unsigned long long total, free, used; } Memory;
int nvmlDeviceGetMemoryInfo(Handle h, Memory *memory) {
  ENTER(h);
  uint64_t reserved = gpu->number[N_reserved] == ABSENT ? 0 : gpu->number[N_reserved];
  memory->used = (gpu->number[N_used] + reserved) << 20;
  memory->free = (gpu->number[N_total] << 20) - memory->used;
  if (gpu->number[N_total] == ABSENT) return NOT_SUPPORTED;
  memory->total = gpu->number[N_total] << 20;
  return SUCCESS;
}
int nvmlDeviceGetPowerUsage(Handle h, unsigned *milliwatts) { ENTER(h); GIVE(power, milliwatts); }
int nvmlDeviceGetTemperature(Handle h, int sensor, unsigned *celsius) { ENTER(h); if (sensor) return INVALID; GIVE(temperature, celsius); }
int nvmlDeviceGetClockInfo(Handle h, int clock, unsigned *mhz) {
  ENTER(h);
  if (clock == 2) GIVE(memory, mhz);
  GIVE(sm, mhz);
}
int nvmlDeviceGetPerformanceState(Handle h, int *state) { ENTER(h); GIVE(pstate, state); }
int nvmlDeviceGetCurrentClocksThrottleReasons(Handle h, unsigned long long *reasons) { ENTER(h); GIVE(reasons, reasons); }
int nvmlDeviceGetFanSpeed(Handle h, unsigned *percent) { ENTER(h); GIVE(fan, percent); }
int nvmlDeviceGetTotalEccErrors(Handle h, int type, int counter, unsigned long long *count) {
  ENTER(h);
  if (counter) return INVALID; /* volatile only */
  if (type) GIVE(ecc_uncorrected, count);
  GIVE(ecc_corrected, count);
}
int nvmlDeviceGetRetiredPagesPendingStatus(Handle h, int *pending) { ENTER(h); GIVE(retired_pending, pending); }

#ifndef OLD_DRIVER
int nvmlDeviceGetNvLinkRemoteDeviceType(Handle h, unsigned link, int *type) {
  ENTER(h);
  if (link >= LINKS || !gpu->link[link][0]) return INVALID;
  *type = strcmp(gpu->link[link], "switch") ? 0 : 2;
  return SUCCESS;
}

typedef struct { unsigned version; unsigned long long total, reserved, free, used; } MemoryV2;
int nvmlDeviceGetMemoryInfo_v2(Handle h, MemoryV2 *memory) {
  ENTER(h);
  if (memory->version != (sizeof(MemoryV2) | 2u << 24)) return VERSION_MISMATCH;
  if (gpu->number[N_total] == ABSENT || gpu->number[N_reserved] == ABSENT) return NOT_SUPPORTED;
  memory->total = gpu->number[N_total] << 20;
  memory->reserved = gpu->number[N_reserved] << 20;
  memory->used = gpu->number[N_used] << 20;
  memory->free = memory->total - memory->used - memory->reserved;
  return SUCCESS;
}
int nvmlDeviceGetTotalEnergyConsumption(Handle h, unsigned long long *millijoules) { ENTER(h); GIVE(energy, millijoules); }
int nvmlDeviceGetCurrentClocksEventReasons(Handle h, unsigned long long *reasons) { ENTER(h); GIVE(reasons, reasons); }

typedef struct { unsigned pid; unsigned long long memory; unsigned gpu_instance, compute_instance; } Process;
int nvmlDeviceGetComputeRunningProcesses_v3(Handle h, unsigned *count, Process *processes) {
  ENTER(h);
  unsigned room = *count;
  *count = (unsigned)gpu->held_count;
  if (!*count) return SUCCESS;
  if (room < *count || !processes) return TOO_SMALL;
  for (unsigned i = 0; i < *count; i++)
    processes[i] = (Process){gpu->held[i].pid, gpu->held[i].mib << 20, ~0u, ~0u};
  return SUCCESS;
}
typedef struct { unsigned pid; unsigned long long at_us; unsigned sm, memory, encoder, decoder; } ProcessUse;
int nvmlDeviceGetProcessUtilization(Handle h, ProcessUse *uses, unsigned *count, unsigned long long since_us) {
  ENTER(h);
  if (slot_of(h) || gpu->number[N_util] == ABSENT) return NOT_SUPPORTED;
  if (!gpu->used_count) return NOT_FOUND;
  struct timespec clock;
  clock_gettime(CLOCK_REALTIME, &clock);
  long long now_us = clock.tv_sec * 1000000LL + clock.tv_nsec / 1000;
  unsigned room = *count, fresh = 0;
  for (int i = 0; i < gpu->used_count; i++) {
    long long at_us = now_us - gpu->used[i].age_ms * 1000;
    if (at_us <= (long long)since_us) continue;
    if (uses && fresh < room)
      uses[fresh] = (ProcessUse){gpu->used[i].pid, (unsigned long long)at_us, gpu->used[i].percent, 0, 0, 0};
    fresh++;
  }
  *count = fresh;
  /* Nothing fresh: the driver says SUCCESS to the sizing call, and the binding raises that. */
  return !fresh || (uses && fresh <= room) ? SUCCESS : TOO_SMALL;
}

typedef union { double d; unsigned ui; unsigned long long ull; } Value;
typedef struct { unsigned field, scope; long long at, latency; unsigned type; int code; Value value; } Field;
int nvmlDeviceGetFieldValues(Handle h, int count, Field *fields) {
  ENTER(h);
  static const struct { unsigned field; int number, narrow; } known[] = {
      {74, N_power_violation, 0}, {75, N_thermal_violation, 0}, {82, N_memory_temperature, 1},
      {94, N_replays, 1}, {138, N_nvlink_tx, 0}, {139, N_nvlink_rx, 0}, {197, N_pcie_tx, 0}, {198, N_pcie_rx, 0}};
  for (int i = 0; i < count; i++) {
    fields[i].code = NOT_SUPPORTED;
    for (size_t j = 0; j < sizeof known / sizeof *known; j++) {
      if (known[j].field != fields[i].field || gpu->number[known[j].number] == ABSENT) continue;
      /* NVLink counters of all links together are asked for by this scope. */
      if ((fields[i].field == 138 || fields[i].field == 139) && fields[i].scope != ~0u) continue;
      fields[i].code = SUCCESS;
      fields[i].type = known[j].narrow ? 1 : 3;
      if (known[j].narrow) fields[i].value.ui = (unsigned)gpu->number[known[j].number];
      else fields[i].value.ull = gpu->number[known[j].number];
    }
  }
  return SUCCESS;
}
int nvmlDeviceGetRemappedRows(Handle h, unsigned *corrected, unsigned *uncorrected, unsigned *pending, unsigned *failed) {
  ENTER(h);
  if (gpu->number[N_remapped] == ABSENT) return NOT_SUPPORTED;
  *corrected = 0;
  *uncorrected = (unsigned)gpu->number[N_remapped];
  *pending = gpu->number[N_repair_pending] == 1;
  *failed = gpu->number[N_repair_failed] == 1;
  return SUCCESS;
}

int nvmlDeviceGetMigMode(Handle h, unsigned *current, unsigned *pending) { ENTER(h); *pending = 0; GIVE(mig, current); }
int nvmlDeviceGetMaxMigDeviceCount(Handle h, unsigned *count) { ENTER(h); *count = SLOTS - 1; return SUCCESS; }
int nvmlDeviceGetMigDeviceHandleByIndex(Handle h, unsigned index, Handle *out) {
  ENTER(h);
  if (index >= SLOTS - 1) return INVALID;
  if (!world->device[gpu_of(h)][1 + index].exists) return NOT_FOUND;
  *out = handle_of(gpu_of(h), 1 + (int)index);
  return SUCCESS;
}
int nvmlDeviceGetGpuInstanceId(Handle h, unsigned *id) { ENTER(h); GIVE(gi, id); }
int nvmlDeviceGetComputeInstanceId(Handle h, unsigned *id) { ENTER(h); GIVE(ci, id); }
typedef struct {
  unsigned multiprocessors, copy, decoders, encoders, jpeg, ofa, gpu_slices, compute_slices;
  unsigned long long memory_mib;
} Attributes;
int nvmlDeviceGetAttributes_v2(Handle h, Attributes *attributes) {
  ENTER(h);
  if (!slot_of(h)) return NOT_SUPPORTED;
  memset(attributes, 0, sizeof *attributes);
  attributes->gpu_slices = (unsigned)gpu->number[N_gi_slices];
  attributes->compute_slices = (unsigned)gpu->number[N_ci_slices];
  attributes->memory_mib = gpu->number[N_total];
  return SUCCESS;
}
#endif
