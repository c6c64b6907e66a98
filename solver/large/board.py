"""The board of a search: a problem laid out for compiled code, and read back as slots."""

from collections.abc import Iterator, Mapping, Sequence, Set

import numpy as np

from solver.arrays import MOST_PEERS, Arrays, Flags, Ints
from solver.compiled import places as at
from solver.compiled.construct import seat
from solver.eligibility import queue_chains, queue_need, separated
from solver.objective import NODE_DOMAIN, TermName
from solver.problem import WHOLE_DEVICE_MILLI, Problem, Queue, Slot, Task
from solver.score import is_touched, levels

Answer = Mapping[str, tuple[Slot, ...]]

UNBOUNDED = 2**60
TERM_PLACES = {
    TermName.PLACED: at.PLACED,
    TermName.DISRUPTION: at.DISRUPTION,
    TermName.FRAGMENTATION: at.FRAGMENTATION,
    TermName.LOCALITY: at.LOCALITY,
    TermName.BALANCE: at.BALANCE,
    TermName.PACK: at.PACK,
    TermName.POWER: at.POWER,
}


class _Tables:
    """Hands out the places of the tables, one behind the other, and fills them."""

    def __init__(self) -> None:
        self._parts: list[Ints] = [np.zeros(at.HEAD, dtype=np.int64)]
        self.size = at.HEAD

    def add(self, values: Ints | Flags) -> int:
        """The place at which these values will be."""
        place = self.size
        self._parts.append(np.ascontiguousarray(values, dtype=np.int64).ravel())
        self.size += values.size
        return place

    def lists(self, rows: Sequence[Sequence[int]]) -> Ints:
        """The places of lists of different lengths."""
        lengths = _ints([len(row) for row in rows])
        place = self.add(_ints([value for row in rows for value in row]))
        return place + np.cumsum(lengths) - lengths

    def memory(self) -> Ints:
        return np.concatenate(self._parts)


class Board:
    """A state of the search, at first the one in which ``answer`` runs."""

    def __init__(self, arrays: Arrays, answer: Answer, frozen: Set[str] = frozenset()) -> None:
        """Whatever else moves, the tasks ``frozen`` stay where the answer has them."""
        self.arrays = arrays
        self._frozen = frozen
        self.problem = arrays.problem
        self._index = {node.id: n for n, node in enumerate(self.problem.nodes)}
        starts = arrays.cluster.device_start.tolist()
        self._devices = [
            {device.id: starts[n] + i for i, device in enumerate(node.devices)}
            for n, node in enumerate(self.problem.nodes)
        ]
        self._device_ids = [device.id for node in self.problem.nodes for device in node.devices]
        self._count_units()
        moved = [
            task
            for task in self.problem.tasks
            if task.placed and not self._may_touch(task) and is_touched(task, answer[task.id])
        ]
        self._touched = len(moved)
        self._moved_cost = sum(task.move_cost for task in moved)
        self.is_left_out = np.array(
            [_is_both_packed_and_spread(task) for task in self.problem.tasks], dtype=bool
        )
        self.m = self._laid_out()
        self._seat(answer)

    # reading

    def answer(self) -> dict[str, tuple[Slot, ...]]:
        """The slots of everything that runs in the state."""
        m = self.m
        nodes, devices = self.problem.nodes, self._device_ids
        where = ((self.units[:, at.NODE] - m[at.NODES]) // at.NODE_WIDTH).tolist()
        held = ((self.held - m[at.DEVICES]) // at.DEVICE_WIDTH).tolist()
        begin, first = self._held_start.tolist(), self.unit_start.tolist()
        found = {}
        for t, task in enumerate(self.problem.tasks):
            slots = tuple(
                Slot(
                    node=nodes[where[u]].id,
                    devices=tuple(devices[d] for d in held[begin[u] : begin[u + 1]]),
                )
                for u in range(first[t], first[t + 1])
                if where[u] >= 0
            )
            if slots:
                found[task.id] = slots
        return found

    def gains(self) -> tuple[int, ...]:
        """The entries of the objective as the search counts them: larger is better in all."""
        return tuple(self.m[self.m[at.VALUE] :][: self.entries].tolist())

    def values(self) -> tuple[int, ...]:
        """The entries of the objective as a plan reports them: costs are positive."""
        signs = [
            1 if TermName(name).is_maximised else -1
            for name in self.problem.objective
            for _ in range(self.ranks if name == TermName.PLACED else 1)
        ]
        return tuple(sign * entry for sign, entry in zip(signs, self.gains(), strict=True))

    def node_places(self, numbers: Ints) -> Ints:
        """Where the rows of these nodes begin."""
        return self._place["nodes"] + numbers * at.NODE_WIDTH

    def task_places(self, numbers: Ints) -> Ints:
        """Where the rows of these tasks begin."""
        return self._place["tasks"] + numbers * at.TASK_WIDTH

    # laying out

    def _count_units(self) -> None:
        """A task that asks for more devices than any node has gets no units."""
        sizes = np.diff(self.arrays.cluster.device_start)
        self._largest = int(sizes.max(initial=0))
        tasks = self.problem.tasks
        count = _ints([t.replicas if t.request.gpus <= self._largest else 0 for t in tasks])
        self.unit_start = np.concatenate((_ints([0]), np.cumsum(count)))
        self._task_of = np.repeat(np.arange(len(tasks)), count)
        gpus = self.arrays.shapes.gpus[self.arrays.shape][self._task_of]
        self._held_start = np.concatenate((_ints([0]), np.cumsum(gpus)))
        ranks = levels(self.problem)
        self.ranks = len(ranks)
        self._rank = {level: rank for rank, level in enumerate(ranks)}
        others = len(self.problem.objective) - ("placed" in self.problem.objective)
        self.entries = others + self.ranks * ("placed" in self.problem.objective)

    def _laid_out(self) -> Ints:
        tables = _Tables()
        cluster = self.arrays.cluster
        nodes, devices, units = len(cluster.kind), len(cluster.device_kind), len(self._task_of)
        self._place = {
            "nodes": tables.add(_zeros(nodes, at.NODE_WIDTH)),
            "devices": tables.add(_zeros(devices, at.DEVICE_WIDTH)),
            "shapes": tables.add(_zeros(len(self.arrays.shapes.gpus), at.SHAPE_WIDTH)),
            "tasks": tables.add(_zeros(len(self.problem.tasks), at.TASK_WIDTH)),
            "units": tables.add(_zeros(units, at.UNIT_WIDTH)),
            "held": tables.add(_zeros(int(self._held_start[-1]))),
        }
        head = {
            at.NODES: self._place["nodes"],
            at.NODE_COUNT: nodes,
            at.DEVICES: self._place["devices"],
            at.SHAPES: self._place["shapes"],
            at.TASKS: self._place["tasks"],
            at.TASK_COUNT: len(self.problem.tasks),
            at.UNITS: self._place["units"],
            at.UNIT_COUNT: units,
            at.LOADS: tables.add(_zeros(at.MOST_LOAD + 1)),
            at.POOL: tables.add(_zeros(units + 1)),
            at.GAIN: tables.add(_zeros(self.entries)),
            at.VALUE: tables.add(_zeros(self.entries)),
            at.DIRTY: tables.add(_zeros(self.entries)),
            at.IS_DIRTY: tables.add(_zeros(self.entries)),
            at.LOG_SIZE: 4 * units + 4096,
            at.LOG_DEVICE_SIZE: 4 * int(self._held_start[-1]) + 4096 * max(1, self._largest),
            at.PICK: tables.add(_zeros(self._largest + 1)),
            at.CHOICE: tables.add(_zeros(self._largest + 1)),
            at.DOMAIN_COUNT: len(cluster.domains) + 1,
            at.SPARE: tables.add(_zeros(2 * nodes + 2)),
        }
        head[at.DOMAINS] = tables.add(self._domains(tables))
        self._place["domains"] = head[at.DOMAINS]
        head[at.LOG] = tables.add(_zeros(head[at.LOG_SIZE], at.LOG_WIDTH))
        head[at.LOG_DEVICE] = tables.add(_zeros(head[at.LOG_DEVICE_SIZE]))
        columns = {
            "nodes": self._node_columns(tables),
            "devices": self._device_columns(),
            "shapes": self._shape_columns(tables),
            "tasks": self._task_columns(tables),
            "units": self._unit_columns(tables),
        }
        m = tables.memory()
        self.m = m
        self.nodes = self._table("nodes", nodes, at.NODE_WIDTH)
        self.devices = self._table("devices", devices, at.DEVICE_WIDTH)
        self.shapes = self._table("shapes", len(self.arrays.shapes.gpus), at.SHAPE_WIDTH)
        self.tasks = self._table("tasks", len(self.problem.tasks), at.TASK_WIDTH)
        self.units = self._table("units", units, at.UNIT_WIDTH)
        self.held = m[self._place["held"] :][: int(self._held_start[-1])]
        for name, table in (
            ("nodes", self.nodes),
            ("devices", self.devices),
            ("shapes", self.shapes),
            ("tasks", self.tasks),
            ("units", self.units),
        ):
            for column, values in columns[name].items():
                table[:, column] = values
        for place, value in head.items():
            m[place] = value
        self._fill_head(m)
        return m

    def _table(self, name: str, rows: int, width: int) -> Ints:
        return self.m[self._place[name] :][: rows * width].reshape(rows, width)

    def _fill_head(self, m: Ints) -> None:
        most = self.problem.budget.max_moves
        m[at.MOST_TOUCHED] = UNBOUNDED if most is None else max(0, most - self._touched)
        m[at.RANDOM] = (self.problem.budget.seed + 1) * 0x9E3779B97F4A7C15 % 2**63 or 1
        m[m[at.LOADS]] = len(self.nodes)
        for place in TERM_PLACES.values():
            m[place] = -1
        entry = 0
        for name in self.problem.objective:
            m[TERM_PLACES[TermName(name)]] = entry
            entry += self.ranks if name == TermName.PLACED else 1
        m[at.RUNS_BEFORE] = m[at.TOUCHED] = np.count_nonzero(self.units[:, at.HOME])
        if m[at.DISRUPTION] >= 0:  # before anything is seated, all that ran has been evicted
            homeless = self._task_of[self.units[:, at.HOME] != at.NONE]
            evicted = int(self.tasks[homeless, at.EVICT_COST].sum())
            m[m[at.VALUE] + m[at.DISRUPTION]] = -evicted - self._moved_cost
        waiting = np.flatnonzero(self.units[:, at.SINGLE])
        m[m[at.POOL] :][: len(waiting)] = self._unit(waiting)
        self.units[waiting, at.POOL_PLACE] = np.arange(len(waiting))
        m[at.POOL_LENGTH] = len(waiting)

    def _node_columns(self, tables: _Tables) -> dict[int, Ints | int]:
        cluster, nodes = self.arrays.cluster, self.problem.nodes
        sizes = np.diff(cluster.device_start)
        place = tables.add(cluster.pair_cost) + cluster.wiring * MOST_PEERS**2
        costly = np.any(cluster.pair_cost, axis=(1, 2))[cluster.wiring]
        home, _, movable = self._homes
        at_home = np.flatnonzero((home >= 0) & (movable > 0))
        at_home = at_home[np.argsort(home[at_home], kind="stable")]
        first = np.searchsorted(home[at_home], np.arange(len(nodes) + 1))
        homes = tables.add(self._unit(at_home))
        rooms = {at.ROOM + k: cluster.room[:, k] for k in range(at.DIMENSIONS)}
        return {
            **rooms,
            at.FIRST_DEVICE: self._device(cluster.device_start[:-1]),
            at.DEVICE_COUNT: sizes,
            at.KIND: cluster.kind,
            at.PAIR_COST: np.where(costly & (sizes <= MOST_PEERS), place, at.NONE),
            at.CPU: cluster.room[:, 0],
            at.WATTS: _ints([node.idle_watts for node in nodes]),
            at.HOMES: homes + first[:-1],
            at.HOME_COUNT: np.diff(first),
            at.INDEX: np.arange(len(nodes)),
        }

    def _device_columns(self) -> dict[int, Ints | int]:
        cluster = self.arrays.cluster
        watts = [d.active_watts for node in self.problem.nodes for d in node.devices]
        return {
            at.FREE: WHOLE_DEVICE_MILLI,
            at.FREE_MEMORY: cluster.device_memory_mib,
            at.DEVICE_KIND: cluster.device_kind,
            at.DEVICE_WATTS: _ints(watts),
        }

    def _shape_columns(self, tables: _Tables) -> dict[int, Ints | int]:
        shapes = self.arrays.shapes
        node_rules = tables.add(shapes.node_accepts)
        device_rules = tables.add(shapes.device_accepts)
        return {
            **{at.NEED + k: shapes.need[:, k] for k in range(at.DIMENSIONS)},
            at.GPUS: shapes.gpus,
            at.MILLI: shapes.milli,
            at.MEMORY: shapes.memory_mib,
            at.WEIGHT: shapes.weight,
            at.NODE_RULE: node_rules + shapes.node_rule * shapes.node_accepts.shape[1],
            at.DEVICE_RULE: device_rules + shapes.device_rule * shapes.device_accepts.shape[1],
        }

    def _task_columns(self, tables: _Tables) -> dict[int, Ints | int]:
        tasks, problem = self.problem.tasks, self.problem
        limits = _limits(problem, tables)
        apart = separated(problem)
        number = {task.id: t for t, task in enumerate(tasks)} if apart else {}
        others = [[number[o] for o in apart.get(t.id, ())] for t in tasks]
        domains = {
            name: self._place["domains"] + row * at.DOMAIN_WIDTH
            for row, name in enumerate((*self.arrays.cluster.domains, NODE_DOMAIN))
        }
        return {
            at.SHAPE: self._place["shapes"] + self.arrays.shape * at.SHAPE_WIDTH,
            at.RANK: _ints([self._rank[t.priority] for t in tasks]),
            at.FEWEST: _ints([t.fewest for t in tasks]),
            at.REPLICAS: np.diff(self.unit_start),
            at.FIRST_UNIT: self._unit(self.unit_start[:-1]),
            at.LIMITS: tables.lists(limits),
            at.LIMIT_COUNT: _ints([len(row) // 2 for row in limits]),
            at.APART: tables.lists([self.task_places(_ints(row)).tolist() for row in others]),
            at.APART_COUNT: _ints([len(row) for row in others]),
            at.PACKED: _ints([domains.get(t.pack_within or "", at.NONE) for t in tasks]),
            at.SPREAD: _ints([domains.get(t.spread_over or "", at.NONE) for t in tasks]),
            at.ROOMS: self._spread_rooms(tables),
            at.MOVE_COST: _ints([t.move_cost for t in tasks]),
            at.EVICT_COST: _ints([t.evict_cost for t in tasks]),
        }

    def _domains(self, tables: _Tables) -> Ints:
        """A row for each domain, the node itself last."""
        rows = []
        for values in (*self.arrays.cluster.domain_value, np.arange(len(self.problem.nodes))):
            named = np.flatnonzero(values >= 0)
            ordered = named[np.argsort(values[named], kind="stable")]
            count = int(values.max(initial=-1)) + 1
            starts = np.searchsorted(values[ordered], np.arange(count + 1))
            by_value = tables.add(self.node_places(ordered))
            rows.append([tables.add(values), count, tables.add(starts), by_value])
        return _ints(rows)

    def _spread_rooms(self, tables: _Tables) -> Ints:
        """For tasks with ``spread_over``: how many replicas the empty nodes of each value hold."""
        cluster, places = self.arrays.cluster, _zeros(len(self.problem.tasks))
        known: dict[tuple[int, int], int] = {}
        for t, task in enumerate(self.problem.tasks):
            if task.spread_over is None:
                continue
            key = int(self.arrays.shape[t]), task.replicas
            if key not in known:
                rooms = np.minimum(rooms_of_empty_nodes(self.arrays, key[0]), task.replicas)
                values = np.arange(len(rooms))
                if task.spread_over != NODE_DOMAIN:
                    values = cluster.domain_value[cluster.domains.index(task.spread_over)]
                has = values >= 0
                sums = np.bincount(values[has], rooms[has], int(values.max(initial=-1)) + 1)
                known[key] = tables.add(sums.astype(np.int64))
            places[t] = known[key]
        return places

    def _unit_columns(self, tables: _Tables) -> dict[int, Ints | int]:
        home, home_held, movable = self._homes
        single = _ints([task.replicas == 1 for task in self.problem.tasks])
        return {
            at.TASK: self.task_places(self._task_of),
            at.HELD: self._place["held"] + self._held_start[:-1],
            at.HOME: np.where(home >= 0, self.node_places(home), at.NONE),
            at.HOME_HELD: tables.add(self._device(home_held)) + self._held_start[:-1],
            at.POOL_PLACE: -1,
            at.MOVABLE: movable,
            at.SINGLE: movable * (single[self._task_of]),
        }

    @property
    def _homes(self) -> tuple[Ints, Ints, Ints]:
        """[units] the node each ran on before (-1), its devices, and whether the search may stop
        and start it.
        """
        tasks = self.problem.tasks
        movable = np.ones(len(self._task_of), dtype=np.int64)
        home = np.full(len(movable), -1, dtype=np.int64)
        home_held = _zeros(int(self._held_start[-1]))
        for t, task in enumerate(tasks):
            if not task.placed:
                continue
            u, end = self.unit_start[t], self.unit_start[t + 1]
            if not self._may_touch(task):
                movable[u:end] = 0
                continue
            (slot,) = task.placed
            home[u] = self._hold(slot, home_held, int(self._held_start[u]))
        return home, home_held, movable

    def _may_touch(self, task: Task) -> bool:
        return (
            self.problem.budget.max_moves != 0
            and task.preemptible
            and task.replicas == 1
            and task.id not in self._frozen
        )

    def _hold(self, slot: Slot, held: Ints, begin: int) -> int:
        """Lists the devices of the slot by number; the number of its node."""
        n = self._index[slot.node]
        for i, device in enumerate(slot.devices):
            held[begin + i] = self._devices[n][device]
        return n

    def _seat(self, answer: Answer) -> None:
        where = np.full(len(self._task_of), -1, dtype=np.int64)
        held = _zeros(int(self._held_start[-1]))
        for t, task in enumerate(self.problem.tasks):
            for u, slot in enumerate(answer.get(task.id, ()), int(self.unit_start[t])):
                where[u] = self._hold(slot, held, int(self._held_start[u]))
        self.held[:] = self._device(held)
        seat(self.m, np.where(where >= 0, self.node_places(where), at.NONE))

    def _device(self, numbers: Ints) -> Ints:
        return self._place["devices"] + numbers * at.DEVICE_WIDTH

    def _unit(self, numbers: Ints) -> Ints:
        return self._place["units"] + numbers * at.UNIT_WIDTH


def rooms_of_empty_nodes(arrays: Arrays, s: int) -> Ints:
    """[N] how many replicas of the shape each node could hold if nothing else ran on it."""
    cluster, shapes = arrays.cluster, arrays.shapes
    rooms = np.full(len(cluster.kind), UNBOUNDED)
    for k in np.flatnonzero(shapes.need[s]):
        rooms = np.minimum(rooms, cluster.room[:, k] // shapes.need[s, k])
    if shapes.gpus[s]:
        accepted = shapes.device_accepts[shapes.device_rule[s]][cluster.device_kind]
        shares = np.where(accepted, WHOLE_DEVICE_MILLI // shapes.milli[s], 0)
        if shapes.memory_mib[s]:
            shares = np.minimum(shares, cluster.device_memory_mib // shapes.memory_mib[s])
        total = np.concatenate((_ints([0]), np.cumsum(shares)))
        on_node = total[cluster.device_start[1:]] - total[cluster.device_start[:-1]]
        rooms = np.minimum(rooms, on_node // shapes.gpus[s])
    return np.where(shapes.node_accepts[shapes.node_rule[s]][cluster.kind], rooms, 0)


def _is_both_packed_and_spread(task: Task) -> bool:
    """Over other values than the nodes': how many each value holds would depend on where it is
    packed.
    """
    return task.pack_within is not None and task.spread_over not in (None, NODE_DOMAIN)


def _limits(problem: Problem, tables: _Tables) -> list[list[int]]:
    """For each task: the place of what is left of each limit over it, and what a replica needs."""
    if not any(queue.limit for queue in problem.queues):
        return [[] for _ in problem.tasks]
    place = {
        (queue.id, dimension): tables.add(_ints([limit]))
        for queue in problem.queues
        for dimension, limit in sorted(queue.limit.items())
    }
    chains = queue_chains(problem)
    return [list(_needs(chains[task.queue], task, place)) for task in problem.tasks]


def _needs(
    chain: tuple[Queue, ...], task: Task, place: Mapping[tuple[str, str], int]
) -> Iterator[int]:
    for queue in chain:
        for dimension in sorted(queue.limit):
            need = queue_need(task.request, dimension)
            if need:
                yield place[queue.id, dimension]
                yield need


def _ints(values: Sequence[int]) -> Ints:
    return np.array(values, dtype=np.int64)


def _zeros(*size: int) -> Ints:
    return np.zeros(size, dtype=np.int64)
