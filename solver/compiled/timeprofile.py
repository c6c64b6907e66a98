"""What is in use of each node over time, as steps, and what would fit beside it.

It all lies in one array of integers, ``m``, as in ``places.py`` and for the same reason: this is
asked millions of times. ``solver.scheduling.timeplan.layout`` lays out nodes, devices and classes;
behind them are the rows of the profile. A node has its rows side by side and in order of time, each
with what is in use from its moment (in the array ``time``) to that of the next. A node without
space for another row moves to the end, with twice as much.
"""

import numba
import numpy as np

DIMENSIONS = 4
WHOLE = 1000
NONE = -1
ENDLESS = 1 << 40
BEGINNING = -np.inf
FIRST_ROWS = 8
"""That a node has space for at first."""

# The head: where the tables begin, and how wide and how many rows are.
NODES, NODE_COUNT, CLASSES, ROWS, WIDTH, TOP = range(6)
HEAD = 8

# A node: capacity in four dimensions, then
FIRST_DEVICE, DEVICE_COUNT, FIRST_ROW, LENGTH, SPACE = range(4, 9)
NODE_WIDTH = 9

# A device.
KIND, DEVICE_MEMORY = range(2)
DEVICE_WIDTH = 2

# A class of tasks: need in four dimensions, then of each device, and where the kinds of devices are
# listed by whether it takes them.
GPUS, MILLI, MEMORY, ACCEPTS = range(4, 8)
CLASS_WIDTH = 8

# A row: in use in four dimensions, then milli and MiB of each device. Row 0 is scratch: the most
# that is in use in the stretch that was looked at last.


@numba.njit(cache=True)
def with_rows(laid_out, occupations):
    """The array with space for the rows of so many occupations, and the array of their moments.

    Each occupation takes two rows at most, and moving leaves no more behind than is used."""
    rows = 1 + 4 * (FIRST_ROWS * laid_out[NODE_COUNT] + 2 * occupations)
    m = np.zeros(len(laid_out) + rows * laid_out[WIDTH], np.int64)
    m[: len(laid_out)] = laid_out
    m[ROWS] = len(laid_out)
    return m, np.empty(rows)


@numba.njit(cache=True)
def clear(m, time):
    """Nothing is in use."""
    for n in range(m[NODE_COUNT]):
        node, first = m[NODES] + n * NODE_WIDTH, 1 + n * FIRST_ROWS
        m[node + FIRST_ROW], m[node + LENGTH], m[node + SPACE] = first, 1, FIRST_ROWS
        time[first] = BEGINNING
        base = m[ROWS] + first * m[WIDTH]
        m[base : base + m[WIDTH]] = 0
    m[TOP] = 1 + m[NODE_COUNT] * FIRST_ROWS


@numba.njit(cache=True)
def _row_at(m, time, node, moment):
    """The row that holds at a moment."""
    low = m[node + FIRST_ROW]
    high = low + m[node + LENGTH]
    while high - low > 1:
        middle = (low + high) >> 1
        if time[middle] <= moment:
            low = middle
        else:
            high = middle
    return low


@numba.njit(cache=True)
def _split(m, time, node, moment):
    """Makes a row begin at this moment, if none does."""
    at = _row_at(m, time, node, moment)
    if time[at] == moment:
        return
    if m[node + LENGTH] == m[node + SPACE]:
        at += _move(m, time, node)
    width, last = m[WIDTH], m[node + FIRST_ROW] + m[node + LENGTH]
    for row in range(last, at, -1):
        time[row] = time[row - 1]
    for i in range(m[ROWS] + (last + 1) * width - 1, m[ROWS] + (at + 1) * width - 1, -1):
        m[i] = m[i - width]
    time[at + 1] = moment
    m[node + LENGTH] += 1


@numba.njit(cache=True)
def _move(m, time, node):
    """Gives a node twice the space at the end; by how many rows it has moved."""
    first, target, length = m[node + FIRST_ROW], m[TOP], m[node + LENGTH]
    time[target : target + length] = time[first : first + length]
    ahead = (target - first) * m[WIDTH]
    base = m[ROWS] + first * m[WIDTH]
    for i in range(base, base + length * m[WIDTH]):
        m[i + ahead] = m[i]
    m[node + FIRST_ROW], m[node + SPACE] = target, 2 * m[node + SPACE]
    m[TOP] += m[node + SPACE]
    return target - first


@numba.njit(cache=True)
def occupy(m, time, n, c, devices, start, end):
    """A replica of the class holds these devices of the node from start to end."""
    node, shape = m[NODES] + n * NODE_WIDTH, m[CLASSES] + c * CLASS_WIDTH
    _split(m, time, node, start)
    last = m[node + FIRST_ROW] + m[node + LENGTH]
    if end < np.inf:
        _split(m, time, node, end)
        last = _row_at(m, time, node, end)
    for row in range(_row_at(m, time, node, start), last):
        base = m[ROWS] + row * m[WIDTH]
        for k in range(DIMENSIONS):
            m[base + k] += m[shape + k]
        for d in devices:
            m[base + DIMENSIONS + 2 * d] += m[shape + MILLI]
            m[base + DIMENSIONS + 2 * d + 1] += m[shape + MEMORY]


@numba.njit(cache=True)
def take(m, c, d):
    """The scratch row has a share of the class more on the device."""
    shape = m[CLASSES] + c * CLASS_WIDTH
    m[m[ROWS] + DIMENSIONS + 2 * d] += m[shape + MILLI]
    m[m[ROWS] + DIMENSIONS + 2 * d + 1] += m[shape + MEMORY]


@numba.njit(cache=True)
def _shares(m, shape, device, used):
    """How many replicas' shares a device has room for beside the milli and MiB at ``used``."""
    if not m[m[shape + ACCEPTS] + m[device + KIND]]:
        return 0
    milli = m[shape + MILLI]
    free = WHOLE - m[used]
    if free < milli:
        return 0
    shares = 1 if milli == WHOLE else free // milli
    if m[shape + MEMORY] > 0:
        shares = min(shares, (m[device + DEVICE_MEMORY] - m[used + 1]) // m[shape + MEMORY])
    return max(shares, 0)


@numba.njit(cache=True)
def fullest(m, n, c):
    """Of the devices with room for the share beside the scratch row the fullest, then the one with
    least memory left."""
    node, shape = m[NODES] + n * NODE_WIDTH, m[CLASSES] + c * CLASS_WIDTH
    chosen, most, least = NONE, -1, 0
    for d in range(m[node + DEVICE_COUNT]):
        device, used = m[node + FIRST_DEVICE] + d * DEVICE_WIDTH, m[ROWS] + DIMENSIONS + 2 * d
        if _shares(m, shape, device, used) == 0:
            continue
        left = m[device + DEVICE_MEMORY] - m[used + 1]
        if m[used] > most or (m[used] == most and left < least):
            chosen, most, least = d, m[used], left
    return chosen


@numba.njit(cache=True)
def _replicas(m, node, shape, base):
    """How many replicas of the class fit on a node beside what the row at ``base`` has in use."""
    room = ENDLESS
    for k in range(DIMENSIONS):
        need = m[shape + k]
        if need > 0:
            free = m[node + k] - m[base + k]
            if free < need:
                return 0
            room = min(room, free // need)
    gpus = m[shape + GPUS]
    if gpus > 0:
        found, device, used = 0, m[node + FIRST_DEVICE], base + DIMENSIONS
        for _ in range(m[node + DEVICE_COUNT]):
            found += _shares(m, shape, device, used)
            device += DEVICE_WIDTH
            used += 2
        room = min(room, found // gpus)
    return room


@numba.njit(cache=True)
def room(m, time, n, c, start, end):
    """How many replicas of the class fit on the node from start to end, if it may go there. Where
    any do, the scratch row says what is in use then at most."""
    node, shape = m[NODES] + n * NODE_WIDTH, m[CLASSES] + c * CLASS_WIDTH
    row, rows, width = _row_at(m, time, node, start), m[ROWS], m[WIDTH]
    found = _replicas(m, node, shape, rows + row * width)
    if found == 0:
        return 0
    for i in range(width):
        m[rows + i] = m[rows + row * width + i]
    last = m[node + FIRST_ROW] + m[node + LENGTH]
    row += 1
    while row < last and time[row] < end:
        is_more, base = False, rows + row * width
        for i in range(width):
            if m[base + i] > m[rows + i]:
                m[rows + i] = m[base + i]
                is_more = True
        if is_more:
            found = _replicas(m, node, shape, rows)
            if found == 0:
                return 0
        row += 1
    return found
