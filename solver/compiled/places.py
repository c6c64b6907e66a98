"""How the state of a search lies in memory.

It is one array of 64-bit integers, ``m``, because compiled code hands an array on at the price of a
few words, and a tuple of sixty arrays at the price of hundreds. Each node, device, shape, task,
domain and unit (one replica) is a row of it, and is named by the place where the row begins:
``m[u + NODE]`` is where unit ``u`` runs. Place 0 stands for none. ``solver.large.board`` lays it
out.
"""

import numpy as np
from numba import int64

MEMORY_TYPE = int64[::1]

NONE = 0
WHOLE = 1000
MOST_LOAD = 1000
"""Loads (model.md, O5) are counted up to so many percent."""
PEERS = 16
"""Pairs of devices are costed on nodes of up to so many."""
DIMENSIONS = 4
ENDLESS = np.int64(1 << 60)

# The head: single numbers, then where the tables begin.
(
    TOUCHED,
    MOST_TOUCHED,
    LOG_LENGTH,
    LOG_DEVICES,
    DIRTY_LENGTH,
    TOP_LOAD,
    POOL_LENGTH,
    RANDOM,
    RUNS_BEFORE,  # movable units that ran before
    PLACED,  # this and the next six: the entry of the objective that a term begins at, -1 without
    DISRUPTION,
    FRAGMENTATION,
    LOCALITY,
    BALANCE,
    PACK,
    POWER,
    NODES,
    NODE_COUNT,
    DEVICES,
    SHAPES,
    TASKS,
    TASK_COUNT,
    UNITS,
    UNIT_COUNT,
    LOADS,  # [MOST_LOAD + 1] nodes by load
    POOL,  # single movable units that don't run
    GAIN,  # [entries] since the last accept
    VALUE,  # [entries]
    DIRTY,  # entries with a gain
    IS_DIRTY,
    LOG,  # (unit, node that it was stopped on or NONE where it was started, place of its devices)
    LOG_SIZE,
    LOG_DEVICE,
    LOG_DEVICE_SIZE,
    PICK,  # [devices of the largest node] what find found
    CHOICE,
    DOMAINS,  # one after the other, the node itself last
    DOMAIN_COUNT,
    SPARE,  # [2 NODE_COUNT + 2] scratch, all 0 between calls
) = range(39)
HEAD = 48
LOG_WIDTH = 3

# A node.
(
    ROOM,  # and the next three: free cpu, memory, disk, network
    _ROOM_2,
    _ROOM_3,
    _ROOM_4,
    FIRST_DEVICE,
    DEVICE_COUNT,
    KIND,
    PAIR_COST,  # [PEERS, PEERS] what holding two of its devices costs; NONE where all cost nothing
    CPU,  # capacity, for the load of nodes without devices
    WATTS,
    USED,  # devices in use
    LIVE,  # units that run there
    FIRST,  # of the movable units that run there, linked by AFTER and BEFORE
    HOMES,  # the movable units that ran there before
    HOME_COUNT,
    INDEX,
    CLASS,
) = range(17)
NODE_WIDTH = 17

# A device.
FREE, FREE_MEMORY, DEVICE_KIND, DEVICE_WATTS = range(4)
DEVICE_WIDTH = 4

# A shape; NEED and the next three of a node, the rest of each device.
NEED, _NEED_2, _NEED_3, _NEED_4, GPUS, MILLI, MEMORY, WEIGHT, NODE_RULE, DEVICE_RULE = range(10)
SHAPE_WIDTH = 10

# A task.
(
    SHAPE,
    RANK,  # 0 for the highest priority level
    FEWEST,
    REPLICAS,
    FIRST_UNIT,
    LIMITS,  # pairs (place of what is left of the limit, need of one unit)
    LIMIT_COUNT,
    APART,  # tasks that it shares no node with
    APART_COUNT,
    PACKED,  # domain that all units have to be in one value of
    SPREAD,  # domain that they have to be spread evenly over
    MOVE_COST,
    EVICT_COST,
    RUNNING,  # units that run
    SPREAD_COST,  # what the gang's spread over domains costs (model.md, O4)
    TASK_CLASS,
    ROOMS,  # for SPREAD: [values] how many units the empty nodes of each value hold
) = range(17)
TASK_WIDTH = 17

# A domain.
(
    VALUE_OF,  # [NODE_COUNT] value of each node, -1 for none
    VALUE_COUNT,
    VALUE_START,  # [values + 1] into BY_VALUE
    BY_VALUE,  # nodes that have a value, sorted by it
) = range(4)
DOMAIN_WIDTH = 4

# A unit.
(
    TASK,
    NODE,
    HELD,
    HOME,  # node that it ran on before
    HOME_HELD,
    AFTER,
    BEFORE,
    POOL_PLACE,  # -1 outside
    MOVABLE,  # the search may start and stop it
    SINGLE,  # and it is the only unit of its task
) = range(10)
UNIT_WIDTH = 10
