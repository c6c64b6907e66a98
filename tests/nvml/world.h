/* What the stand-in's calls know of the world that a script describes. */
#ifndef WORLD_H
#define WORLD_H

#include <stdint.h>

enum {
  SUCCESS = 0, UNINITIALIZED = 1, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7,
  TIMEOUT = 10, VERSION_MISMATCH = 25, GPU_NOT_FOUND = 28
};
enum { GPUS = 16, SLOTS = 8, LINKS = 18, PROCESSES = 24, RULES = 128, XIDS = 32 };

/* Numbers of a GPU or MIG device. One that its line doesn't name is a sensor that it lacks. */
#define NUMBERS(X)                                                                                  \
  X(total) X(used) X(reserved) X(util) X(busy) X(power) X(energy) X(temperature) X(sm) X(memory)    \
  X(reasons) X(pstate) X(limit) X(sm_max) X(gen) X(gen_max) X(width) X(width_max) X(fan)            \
  X(memory_temperature) X(replays) X(nvlink_tx) X(nvlink_rx) X(pcie_tx) X(pcie_rx)                  \
  X(power_violation) X(thermal_violation) X(ecc_corrected) X(ecc_uncorrected) X(remapped)           \
  X(repair_pending) X(repair_failed) X(retired_pending) X(gpm_sm) X(gpm_occupancy) X(gpm_tensor)    \
  X(gpm_dram) X(gi) X(ci) X(gi_slices) X(ci_slices) X(mig) X(events) X(capability)
#define AS_ENUM(name) N_##name,
enum { NUMBERS(AS_ENUM) NUMBER_COUNT };
#define ABSENT UINT64_MAX

typedef struct { unsigned pid; uint64_t mib; } Held;
typedef struct { unsigned pid, percent; int64_t age_ms; } Used;

typedef struct {
  int exists, held_count, used_count;
  char uuid[96], name[96], bus[32], serial[32], link[LINKS][40];
  uint64_t number[NUMBER_COUNT];
  Held held[PROCESSES];
  Used used[PROCESSES];
} Device;

typedef struct { char act, function[64]; int gpu, code; } Rule;
typedef struct { int gpu; uint64_t code; unsigned gi, ci; uint64_t type; } Xid;

typedef struct {
  int gpu_count, rule_count, xid_count, cuda, ancestor[GPUS][GPUS];
  char driver[80];
  Device device[GPUS][SLOTS]; /* slot 0 is the GPU itself, the others are its MIG devices */
  Rule rule[RULES];
  Xid xid[XIDS];
} World;

/* A handle is a number, so that it outlives a change of the world. */
typedef struct Opaque *Handle;
static inline Handle handle_of(int gpu, int slot) { return (Handle)(uintptr_t)(1 + gpu * SLOTS + slot); }
static inline int gpu_of(Handle handle) { return (int)(((uintptr_t)handle - 1) / SLOTS); }
static inline int slot_of(Handle handle) { return (int)(((uintptr_t)handle - 1) % SLOTS); }

extern int opened;

/* The world as the script has it now. An old one is never freed: a call may be reading it. */
World *world_now(void);
/* Does what the script's rule for this call says, and gives its error code. `gpu` -1 is no GPU. */
int obey(World *world, int gpu, const char *function);
/* The next Xid that nobody was told of, or NULL. */
Xid *next_xid(World *world);

/* Every call about a device begins with this: `world` and `gpu` (a Device) are there afterwards. */
#define ENTER_SYSTEM()                                   \
  World *world = world_now();                            \
  (void)world;                                           \
  do {                                                   \
    int code = obey(world, -1, __func__);                \
    if (code) return code;                               \
    if (!opened) return UNINITIALIZED;                   \
  } while (0)
#define ENTER(handle)                                                              \
  World *world = world_now();                                                      \
  Device *gpu = &world->device[gpu_of(handle) % GPUS][slot_of(handle)];            \
  do {                                                                             \
    int code = obey(world, gpu_of(handle), __func__);                              \
    if (code) return code;                                                         \
    if (!opened) return UNINITIALIZED;                                             \
    if (!gpu->exists) return slot_of(handle) ? NOT_FOUND : GPU_NOT_FOUND;          \
  } while (0)
/* Answers with a number of the device, or that it has no such sensor. */
#define GIVE(field, out)                                                 \
  do {                                                                   \
    if (gpu->number[N_##field] == ABSENT) return NOT_SUPPORTED;          \
    *(out) = gpu->number[N_##field];                                     \
    return SUCCESS;                                                      \
  } while (0)

#endif
