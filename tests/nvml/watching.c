/* The calls that watch over time: events, and GPM, which compares two moments. */
#include "world.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { POLL_MS = 100 };

typedef struct { unsigned registered; } EventSet;
typedef struct { Handle device; unsigned long long type, data; unsigned gi, ci; } EventData;

int nvmlEventSetCreate(EventSet **set) {
  ENTER_SYSTEM();
  *set = calloc(1, sizeof **set);
  return SUCCESS;
}
int nvmlEventSetFree(EventSet *set) { free(set); return SUCCESS; }
int nvmlDeviceGetSupportedEventTypes(Handle h, unsigned long long *types) { ENTER(h); GIVE(events, types); }
int nvmlDeviceRegisterEvents(Handle h, unsigned long long types, EventSet *set) {
  ENTER(h);
  if (types & ~gpu->number[N_events]) return NOT_SUPPORTED;
  set->registered |= 1u << gpu_of(h);
  return SUCCESS;
}
int nvmlEventSetWait_v2(EventSet *set, EventData *data, unsigned timeout_ms) {
  for (unsigned waited_ms = 0;; waited_ms += POLL_MS) {
    ENTER_SYSTEM();
    for (int i = 0; i < GPUS; i++) { /* one lost GPU ends the wait of all in the set */
      int code = set->registered >> i & 1 ? obey(world, i, __func__) : SUCCESS;
      if (code) return code;
    }
    for (Xid *xid; (xid = next_xid(world));) {
      if (!(set->registered >> xid->gpu & 1)) continue;
      *data = (EventData){handle_of(xid->gpu, 0), xid->type, xid->code, xid->gi, xid->ci};
      return SUCCESS;
    }
    if (waited_ms >= timeout_ms) return TIMEOUT;
    struct timespec pause_for = {0, POLL_MS * 1000000L};
    nanosleep(&pause_for, NULL);
  }
}

#ifndef OLD_DRIVER
typedef struct { int taken; double metric[11]; } GpmSample;
typedef struct { unsigned id; int code; double value; const char *names[3]; } GpmMetric;
typedef struct { unsigned version, count; GpmSample *first, *second; GpmMetric metric[]; } GpmRequest;
typedef struct { unsigned version, supported; } GpmSupport;

int nvmlGpmQueryDeviceSupport(Handle h, GpmSupport *support) {
  ENTER(h);
  support->supported = gpu->number[N_gpm_sm] != ABSENT || gpu->number[N_mig] == 1;
  return SUCCESS;
}
int nvmlGpmSampleAlloc(GpmSample **sample) { ENTER_SYSTEM(); *sample = calloc(1, sizeof **sample); return SUCCESS; }
int nvmlGpmSampleFree(GpmSample *sample) { free(sample); return SUCCESS; }

static int take(Device *device, GpmSample *sample) {
  if (device->number[N_gpm_sm] == ABSENT) return NOT_SUPPORTED;
  sample->taken = 1;
  sample->metric[2] = (double)device->number[N_gpm_sm];
  sample->metric[3] = (double)device->number[N_gpm_occupancy];
  sample->metric[5] = (double)device->number[N_gpm_tensor];
  sample->metric[10] = (double)device->number[N_gpm_dram];
  return SUCCESS;
}
int nvmlGpmSampleGet(Handle h, GpmSample *sample) { ENTER(h); return take(gpu, sample); }
int nvmlGpmMigSampleGet(Handle h, unsigned gi, GpmSample *sample) {
  ENTER(h);
  for (int slot = 1; slot < SLOTS; slot++) {
    Device *mig = &world->device[gpu_of(h)][slot];
    if (mig->exists && mig->number[N_gi] == gi) return take(mig, sample);
  }
  return NOT_FOUND;
}
int nvmlGpmMetricsGet(GpmRequest *request) {
  ENTER_SYSTEM();
  if (request->version != 1) return VERSION_MISMATCH;
  if (!request->first->taken || !request->second->taken) return INVALID;
  for (unsigned i = 0; i < request->count; i++) {
    request->metric[i].code = request->metric[i].id < 11 ? SUCCESS : NOT_SUPPORTED;
    if (request->metric[i].id < 11) request->metric[i].value = request->second->metric[request->metric[i].id];
  }
  return SUCCESS;
}
#endif
