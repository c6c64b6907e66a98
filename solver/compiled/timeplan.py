"""Who starts when, if every task takes as long as it is said to (docs/model.md, "The time plan").

One call plays all draws. A task in its order gets the earliest start at which its replicas fit for
as long as they run, beside all before it (T3). Room is only ever taken, so of tasks of one class
none starts before a shorter one that came earlier: each class goes on looking where it last found
room.
"""

from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt
from numba import types

from solver.compiled.timeprofile import (
    BEGINNING,
    CLASS_WIDTH,
    CLASSES,
    GPUS,
    NONE,
    clear,
    fullest,
    occupy,
    room,
    take,
    with_rows,
)
from solver.compiled.timerecords import ANSWER, CAUSES, F2, GROUND, I1, SLOTS

OCTAVES = 48
"""Durations are told apart by powers of two for what is known of earlier ones of their class."""
NEVER = np.inf


class _State(NamedTuple):
    """Who holds what and when, in one draw. Lists begin with whoever ends last."""

    end: npt.NDArray[np.float64]
    task: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    device: npt.NDArray[np.int64]
    after: npt.NDArray[np.int64]
    head: npt.NDArray[np.int64]
    meter_start: npt.NDArray[np.float64]
    meter_end: npt.NDArray[np.float64]
    meter_amount: npt.NDArray[np.int64]
    meter_after: npt.NDArray[np.int64]
    meter_head: npt.NDArray[np.int64]
    event: npt.NDArray[np.float64]
    event_node: npt.NDArray[np.int64]
    event_task: npt.NDArray[np.int64]
    length: npt.NDArray[np.int64]
    """[4] occupations, devices of these, entries of meters, events"""
    fits: npt.NDArray[np.int64]
    """[N] replicas that fit on each node"""
    together: npt.NDArray[np.int64]
    """[G] and in each group"""


_OCCUPATIONS, _DEVICES, _ENTRIES, _EVENTS = 0, 1, 2, 3


@numba.njit(cache=True)
def _within_limits(ground, state, c, start, end):
    """How many replicas the limits of its queues leave room for from start to end."""
    room = ground.sizes[c, 1]
    for i in range(ground.meter_start[c], ground.meter_start[c + 1]):
        m, need = ground.meter[i, 0], ground.meter[i, 1]
        peak = _metered(state, m, start)
        e = state.meter_head[m]
        while e != NONE and state.meter_end[e] > start:
            if start < state.meter_start[e] < end:
                peak = max(peak, _metered(state, m, state.meter_start[e]))
            e = state.meter_after[e]
        room = min(room, (ground.limit[m] - peak) // need)
    return max(room, 0)


@numba.njit(cache=True)
def _metered(state, m, moment):
    amount = 0
    e = state.meter_head[m]
    while e != NONE and state.meter_end[e] > moment:
        if state.meter_start[e] <= moment:
            amount += state.meter_amount[e]
        e = state.meter_after[e]
    return amount


@numba.njit(cache=True)
def _occupy(m, time, state, n, t, c, start, end):
    """A replica of the task's; its devices are those added since the last one."""
    o = state.length[_OCCUPATIONS]
    state.length[_OCCUPATIONS] = o + 1
    state.end[o], state.task[o] = end, t
    state.first[o + 1] = state.length[_DEVICES]
    devices = state.device[state.first[o] : state.first[o + 1]]
    occupy(m, time, n, c, devices, start, end)
    at = state.head[n]
    if at == NONE or state.end[at] <= end:
        state.after[o] = at
        state.head[n] = o
    else:
        while state.after[at] != NONE and state.end[state.after[at]] > end:
            at = state.after[at]
        state.after[o] = state.after[at]
        state.after[at] = o


@numba.njit(cache=True)
def _add_device(state, d):
    state.device[state.length[_DEVICES]] = d
    state.length[_DEVICES] += 1


@numba.njit(cache=True)
def _count_in(ground, state, c, replicas, start, end):
    """Counts the task in the meters of its queues."""
    for i in range(ground.meter_start[c], ground.meter_start[c + 1]):
        m = ground.meter[i, 0]
        e = state.length[_ENTRIES]
        state.length[_ENTRIES] = e + 1
        state.meter_start[e], state.meter_end[e] = start, end
        state.meter_amount[e] = replicas * ground.meter[i, 1]
        at = state.meter_head[m]
        if at == NONE or state.meter_end[at] <= end:
            state.meter_after[e] = at
            state.meter_head[m] = e
        else:
            while state.meter_after[at] != NONE and state.meter_end[state.meter_after[at]] > end:
                at = state.meter_after[at]
            state.meter_after[e] = state.meter_after[at]
            state.meter_after[at] = e


@numba.njit(cache=True)
def _note(state, moment, n, t, horizon):
    """Something ends on the node then: it may make room."""
    if moment > horizon:
        return
    i = state.length[_EVENTS]
    state.length[_EVENTS] = i + 1
    while i > 0 and state.event[i - 1] > moment:
        state.event[i] = state.event[i - 1]
        state.event_node[i] = state.event_node[i - 1]
        state.event_task[i] = state.event_task[i - 1]
        i -= 1
    state.event[i], state.event_node[i], state.event_task[i] = moment, n, t


@numba.njit(cache=True)
def _is_barred(ground, n, c, start, end):
    """True when a window keeps the class off the node at some time from start to end."""
    for i in range(ground.window_start[n], ground.window_start[n + 1]):
        w = ground.window[i]
        if (
            not ground.window_allows[c, w]
            and ground.window_time[w, 0] < end
            and start < ground.window_time[w, 1]
        ):
            return True
    return False


@numba.njit(cache=True)
def _look(ground, m, time, state, c, start, end, only_open):
    """Counts the replicas that fit on each node and in each group; whether one has room for enough.

    ``only_open``: nodes without room are known to have none.
    """
    fewest, group = ground.sizes[c, 0], ground.group[ground.rule[c, 1]]
    accepts, kind = ground.node_accepts[ground.rule[c, 0]], ground.node_kind
    windows, fits, together = ground.window_start, state.fits, state.together
    together[:] = 0
    is_open = False
    for n in range(len(kind)):
        if only_open and fits[n] == 0:
            continue
        fits[n] = 0
        g = group[n]
        if g == NONE or not accepts[kind[n]]:
            continue
        if windows[n] < windows[n + 1] and _is_barred(ground, n, c, start, end):
            continue
        fits[n] = free = room(m, time, n, c, start, end)
        if free > 0:
            together[g] += free
            is_open |= together[g] >= fewest
    return is_open


@numba.njit(cache=True)
def _find(ground, m, time, state, c, earliest, seconds):
    """The earliest start from ``earliest`` on, and the event that made room; (NEVER, NONE) when
    there is none within the horizon. Leaves in ``fits`` what each node has room for then."""
    fewest, group = ground.sizes[c, 0], ground.group[ground.rule[c, 1]]
    accepts, kind = ground.node_accepts[ground.rule[c, 0]], ground.node_kind
    windows, fits, together = ground.window_start, state.fits, state.together
    event, event_node, events = state.event, state.event_node, state.length[_EVENTS]
    is_open = _look(ground, m, time, state, c, earliest, earliest + seconds, False)
    if is_open and _within_limits(ground, state, c, earliest, earliest + seconds) >= fewest:
        return earliest, NONE
    for i in range(np.searchsorted(event[:events], earliest, side="right"), events):
        moment, n = event[i], event_node[i]
        g = group[n]
        # From one event to the next a node only loses room: until it's looked at anew, what was
        # counted is a bound from above.
        if g != NONE and accepts[kind[n]]:
            free = 0
            if windows[n] == windows[n + 1] or not _is_barred(
                ground, n, c, moment, moment + seconds
            ):
                free = room(m, time, n, c, moment, moment + seconds)
            together[g] += free - fits[n]
            fits[n] = free
            is_open |= together[g] >= fewest
        if is_open:
            is_open = _look(ground, m, time, state, c, moment, moment + seconds, True)
            if is_open and _within_limits(ground, state, c, moment, moment + seconds) >= fewest:
                return moment, i
    return NEVER, NONE


@numba.njit(cache=True)
def _choose_group(state, wanted):
    """The group with the least room that is enough, or else the most."""
    chosen = NONE
    for g in range(len(state.together)):
        room = state.together[g]
        if room == 0:
            continue
        if chosen == NONE:
            chosen = g
            continue
        best = state.together[chosen]
        if (best < wanted and room > best) or (wanted <= room < best):
            chosen = g
    return chosen


@numba.njit(cache=True)
def _choose_node(ground, state, row, group, wanted):
    """The node with the least room that is enough, or else the most."""
    chosen, best = NONE, 0
    for n in range(len(state.fits)):
        room = state.fits[n]
        if room == 0 or ground.group[row, n] != group:
            continue
        if chosen == NONE or (best < wanted and room > best) or (wanted <= room < best):
            chosen, best = n, room
    return chosen


@numba.njit(cache=True)
def _place(ground, m, time, state, answer, j, c, row, start, end, horizon, unit, place):
    """Puts the task there; how many replicas of it."""
    wanted = min(ground.sizes[c, 1], _within_limits(ground, state, c, start, end))
    group = _choose_group(state, wanted)
    wanted = min(wanted, state.together[group])
    gpus = m[m[CLASSES] + c * CLASS_WIDTH + GPUS]
    done = 0
    while done < wanted:
        n = _choose_node(ground, state, ground.rule[c, 1], group, wanted - done)
        if n == NONE:
            break
        replicas = min(room(m, time, n, c, start, end), wanted - done)
        state.fits[n] = 0
        for _ in range(replicas):
            for g in range(gpus):
                d = fullest(m, n, c)
                take(m, c, d)
                _add_device(state, d)
                answer.device[j, place + done * gpus + g] = d
            answer.node[j, unit + done] = n
            _occupy(m, time, state, n, row, c, start, end)
            done += 1
        if replicas > 0:
            _note(state, end, n, row, horizon)
    _count_in(ground, state, c, done, start, end)
    return done


@numba.njit(cache=True)
def _add_cause(causes, ends, t, end):
    """Keeps the tasks that ended last, each once."""
    for i in range(CAUSES):
        if causes[i] == t:
            return
        if causes[i] == NONE or ends[i] < end:
            for k in range(CAUSES - 1, i, -1):
                causes[k], ends[k] = causes[k - 1], ends[k - 1]
            causes[i], ends[i] = t, end
            return


@numba.njit(cache=True)
def _explain(state, answer, j, t, maker, start, unit, place, replicas, gpus):
    """Who had to end before: whoever made the room, and who last held the same devices."""
    if start <= 0:
        return
    causes, ends = answer.cause[j, t], np.full(CAUSES, -1.0)
    if maker != NONE:
        _add_cause(causes, ends, maker, start)
    for r in range(replicas):
        o = state.head[answer.node[j, unit + r]]
        found = 0
        while o != NONE and found < CAUSES:
            if 0 < state.end[o] <= start:
                is_there = gpus == 0
                for p in range(state.first[o], state.first[o + 1]):
                    for g in range(gpus):
                        is_there |= state.device[p] == answer.device[j, place + r * gpus + g]
                if is_there:
                    _add_cause(causes, ends, state.task[o], state.end[o])
                    found += 1
            o = state.after[o]


@numba.njit(cache=True)
def _begin(ground, slots, shape, seconds, m, time, state, horizon):
    """What runs, and the ends of windows."""
    clear(m, time)
    state.head[:] = NONE
    state.meter_head[:] = NONE
    state.length[:] = 0
    for s in range(len(slots.task)):
        t = slots.task[s]
        for p in range(slots.first[s], slots.first[s + 1]):
            _add_device(state, slots.device[p])
        _occupy(m, time, state, slots.node[s], t, shape[t], BEGINNING, seconds[t])
        _count_in(ground, state, shape[t], 1, BEGINNING, seconds[t])
        if s + 1 == len(slots.task) or slots.task[s + 1] != t or slots.node[s + 1] != slots.node[s]:
            _note(state, seconds[t], slots.node[s], t, horizon)
    for n in range(len(ground.node_kind)):
        for i in range(ground.window_start[n], ground.window_start[n + 1]):
            end = ground.window_time[ground.window[i], 1]
            if end > 0:
                _note(state, end, n, NONE, horizon)


@numba.njit(cache=True)
def _octave(seconds):
    if seconds < 1:
        return 0
    if seconds >= 2.0 ** (OCTAVES - 2):
        return OCTAVES - 1
    return int(np.log2(seconds)) + 1


@numba.njit(types.void(I1, GROUND, SLOTS, I1, F2, F2, I1, I1, types.float64, ANSWER), cache=True)
def play(
    laid_out, ground, slots, shape, running, waiting, unit_start, place_start, horizon, answer
):
    """Plays each draw: ``running`` [J, R] and ``waiting`` [J, T] are the seconds that tasks still
    take and take. ``shape`` [R + T] is the class of each row: those that run, then those that wait
    in their order. ``answer`` is filled; its ``cause`` has to be all NONE."""
    nodes, before, tasks = len(ground.node_kind), running.shape[1], waiting.shape[1]
    units, places = answer.node.shape[1], answer.device.shape[1]
    occupations = len(slots.task) + units
    groups = 1
    for row in range(len(ground.group)):
        for n in range(nodes):
            groups = max(groups, ground.group[row, n] + 1)
    entries = 1
    for s in range(len(slots.task)):
        c = shape[slots.task[s]]
        entries += ground.meter_start[c + 1] - ground.meter_start[c]
    for t in range(tasks):
        c = shape[before + t]
        entries += ground.meter_start[c + 1] - ground.meter_start[c]
    events = occupations + len(ground.window) + 1
    m, time = with_rows(laid_out, occupations)
    state = _State(
        np.empty(occupations),
        np.empty(occupations, np.int64),
        np.zeros(occupations + 1, np.int64),
        np.empty(len(slots.device) + places, np.int64),
        np.empty(occupations, np.int64),
        np.empty(nodes, np.int64),
        np.empty(entries),
        np.empty(entries),
        np.empty(entries, np.int64),
        np.empty(entries, np.int64),
        np.empty(len(ground.limit), np.int64),
        np.empty(events),
        np.empty(events, np.int64),
        np.empty(events, np.int64),
        np.zeros(4, np.int64),
        np.zeros(nodes, np.int64),
        np.zeros(groups, np.int64),
    )
    known = np.empty((len(ground.sizes), OCTAVES))
    known_seconds = np.empty((len(ground.sizes), OCTAVES))
    for j in range(len(waiting)):
        _begin(ground, slots, shape, running[j], m, time, state, horizon)
        known[:] = 0.0
        known_seconds[:] = 0.0
        for t in range(tasks):
            c = shape[before + t]
            seconds = waiting[j, t]
            octave = _octave(seconds)
            earliest = 0.0
            for b in range(octave):
                earliest = max(earliest, known[c, b])
            if known_seconds[c, octave] <= seconds:
                earliest = max(earliest, known[c, octave])
            start, event = NEVER, NONE
            if earliest < NEVER:
                start, event = _find(ground, m, time, state, c, earliest, seconds)
            answer.start[j, t] = start
            answer.replicas[j, t] = 0
            if start >= known[c, octave]:
                known[c, octave] = start
                known_seconds[c, octave] = seconds
            if start == NEVER:
                continue
            # Read before placing, which adds events.
            maker = NONE if event == NONE else state.event_task[event]
            unit, place, end = unit_start[t], place_start[t], start + seconds
            done = _place(
                ground, m, time, state, answer, j, c, before + t, start, end, horizon, unit, place
            )
            answer.replicas[j, t] = done
            _explain(
                state,
                answer,
                j,
                t,
                maker,
                start,
                unit,
                place,
                done,
                m[m[CLASSES] + c * CLASS_WIDTH + GPUS],
            )
