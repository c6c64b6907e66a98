"""The linear program over classes, and HiGHS behind it. Its duals propose prices.

Columns: replicas of a group of tasks on a class of devices (or of nodes, for tasks without GPU),
leftovers that stay, and devices filled with a pattern of shares. Rows: how many replicas there are,
room of each class of nodes, devices, shares of a size that the patterns make room for, device
memory, places for replicas of several devices, queues' limits, and what other levels keep.
"""

import highspy
import numpy as np
import numpy.typing as npt

from solver.arrays import Ints
from solver.highs.groups import Floats, groups_of, size_row, sizes_of
from solver.highs.prices import LARGEST_COST, LARGEST_PRICE, Ledger, Prices
from solver.problem import WHOLE_DEVICE_MILLI

MOST_PARTS = 20
"""Sizes of partly free devices told apart in a class; the proof tells all apart."""
WORTH = 1000.0
"""The program counts in whole devices."""
DUAL_SIMPLEX, PRIMAL_SIMPLEX = 1, 4
"""HiGHS's ``simplex_strategy``."""


class _Matrix:
    """Named blocks of rows, and entries for them. Columns are numbered by the caller."""

    def __init__(self, heights: dict[str, int]) -> None:
        self.start: dict[str, int] = {}
        self.height = 0
        for name, height in heights.items():
            self.start[name] = self.height
            self.height += height
        self._row: list[Ints] = []
        self._column: list[Ints] = []
        self._value: list[Floats] = []

    def put(self, name: str, row: Ints, column: Ints, value: npt.ArrayLike) -> None:
        """Entries of a block; ``value`` is one for all or one for each. Zeros are left out."""
        values = np.broadcast_to(np.asarray(value, dtype=np.float64), row.shape)
        kept = values != 0
        self._row.append(self.start[name] + row[kept])
        self._column.append(column[kept])
        self._value.append(values[kept])

    def compressed(self, width: int) -> tuple[Ints, Ints, Floats]:
        """By columns: where each starts, then the row and the value of each entry."""
        row, column = np.concatenate(self._row), np.concatenate(self._column)
        # A leftover may name a class of devices twice.
        place, entry = np.unique(column * self.height + row, return_inverse=True)
        value = np.bincount(entry, weights=np.concatenate(self._value), minlength=len(place))
        column, row = np.divmod(place, max(1, self.height))
        return np.searchsorted(column, np.arange(width + 1)), row, value.astype(np.float64)


class Program:
    """The program of a ledger's problem, ready to be solved for one level after the other."""

    def __init__(self, ledger: Ledger, seconds: float | None, iterations: int | None) -> None:
        self.ledger = ledger
        self._part_rooms, self._part_count = self._parts()
        rooms = {WHOLE_DEVICE_MILLI: int((ledger.cluster.free[:, -1] > 0).sum())}
        for i, room in enumerate(self._part_rooms):
            rooms[room] = int((self._part_count[:, i] > 0).sum())
        self.sizes, self._patterns = sizes_of(ledger, rooms)
        width = sum(rooms[room] * len(found) for room, found in self._patterns.items())
        self.groups = groups_of(ledger, self.sizes, width)
        # Patterns of rounded sizes may hold more than a device does; the real sizes don't.
        self._is_coarse = len(self.sizes) < len(ledger.sizes)
        cluster, demand, first = ledger.cluster, ledger.demand, self.groups.first
        nodes, devices = len(cluster.size), len(cluster.at)
        self._rows = _Matrix(
            {
                "group": len(first),
                "node": cluster.total.size,
                "whole": devices,
                "part": devices * len(self._part_rooms),
                "share": devices * len(self.sizes),
                "milli": devices,
                "memory": devices,
                "cut": nodes * len(ledger.cuts),
                "limit": len(demand.limits),
                "level": len(demand.levels),
            }
        )
        on_gpu, at_device = np.nonzero(ledger.on_devices[first])
        no_gpu, at_node = np.nonzero(ledger.on_nodes[first] & (ledger.gpus[first] == 0)[:, None])
        self._group_of = np.concatenate([on_gpu, no_gpu])
        self._node_of = np.concatenate([cluster.at[at_device], at_node])
        self._device_of = np.concatenate([at_device, np.full(len(no_gpu), -1)])
        self._leftover_columns: list[tuple[int, int]] = []
        self._put_replicas()
        width = self._put_patterns(len(self._group_of))
        after_patterns = width
        width = self._put_leftovers(width)
        self.width = width
        worker = np.full(width, -1)
        worker[: len(self._group_of)] = self._group_of
        worker[after_patterns:] = [g for g, _ in self._leftover_columns]
        self.cost_level = np.where(worker >= 0, demand.level[first][worker], -1)
        self.cost = np.where(worker >= 0, self.groups.weight[worker] / WORTH, 0.0)
        self.upper = np.full(width, np.inf)
        self.upper[after_patterns:] = [count for _, count in self._leftover_columns]
        self._bases: dict[int, highspy.HighsBasis] = {}
        self._highs = self._solver(seconds, iterations)

    def _put_replicas(self) -> None:
        """One column for each group and class of devices, or of nodes, that could take it."""
        ledger, groups, put = self.ledger, self.groups, self._rows.put
        demand, first = ledger.demand, groups.first
        group, node, device = self._group_of, self._node_of, self._device_of
        columns = np.arange(len(group))
        dims, sizes = ledger.need.shape[1], len(self.sizes)
        put("group", group, columns, 1.0)
        for k in range(dims):
            put("node", node * dims + k, columns, groups.need[group, k])
        gpus, is_share = ledger.gpus[first][group], ledger.is_share[first][group]
        some = np.flatnonzero((device >= 0) & ~is_share)
        put("whole", device[some], some, gpus[some])
        some = np.flatnonzero(is_share)
        row = size_row(self.sizes, ledger.milli[first])[group[some]]
        put("share", device[some] * sizes + row, some, 1.0)
        put("memory", device[some], some, groups.memory[group[some]])
        if self._is_coarse:
            put("milli", device[some], some, groups.milli[group[some]])
        for i, least in enumerate(ledger.cuts):
            some = np.flatnonzero(gpus >= least)
            put("cut", node[some] * len(ledger.cuts) + i, some, 1.0)
        for i in range(len(demand.limits)):
            put("limit", np.full(len(group), i), columns, demand.limit_need[first, i][group])
        put("level", demand.level[first][group], columns, -groups.weight[group] / WORTH)

    def _put_patterns(self, width: int) -> int:
        """For each class of devices that shares may be on, one column a pattern."""
        ledger, put, sizes = self.ledger, self._rows.put, len(self.sizes)
        cluster, first = ledger.cluster, self.groups.first
        takes_shares = ledger.on_devices[first[ledger.is_share[first]]].any(axis=0)
        memory = -(-cluster.memory_mib >> ledger.memory_unit)
        rooms = [("whole", 1, 0, WHOLE_DEVICE_MILLI, cluster.free[:, -1])]
        parts = len(self._part_rooms)
        for i, room in enumerate(self._part_rooms):
            rooms.append(("part", parts, i, room, self._part_count[:, i]))
        for name, blocks, block, room, count in rooms:
            used = np.flatnonzero(takes_shares & (count > 0))
            found = self._patterns.get(room)
            if not found or not len(used):
                continue
            content = np.array(found, dtype=np.int64)
            pattern, size = np.nonzero(content)
            columns = width + np.arange(len(used) * len(found))
            device = np.repeat(used, len(found))
            put(name, device * blocks + block, columns, 1.0)
            if self._is_coarse:
                put("milli", device, columns, -room)
            if name == "whole":
                put("memory", device, columns, -memory[device])
            put(
                "share",
                (used[:, None] * sizes + size).ravel(),
                (columns[:: len(found), None] + pattern).ravel(),
                np.tile(-content[pattern, size], len(used)),
            )
            width += len(columns)
        return width

    def _parts(self) -> tuple[tuple[int, ...], Ints]:
        """A few sizes of partly free devices, and how many of each class are counted as such."""
        free = self.ledger.cluster.free
        smallest = min(self.ledger.sizes, default=WHOLE_DEVICE_MILLI)
        count = free[:, smallest:WHOLE_DEVICE_MILLI].sum(axis=0)
        rooms = np.flatnonzero(count) + smallest
        if len(rooms) > MOST_PARTS:
            rooms = rooms[np.linspace(0, len(rooms) - 1, MOST_PARTS + 1).round().astype(int)[1:]]
        counts = np.zeros((len(free), len(rooms)), dtype=np.int64)
        least = smallest
        for i, room in enumerate(rooms.tolist()):
            counts[:, i] = free[:, least : room + 1].sum(axis=1)
            least = room + 1
        return tuple(rooms.tolist()), counts

    def _put_leftovers(self, width: int) -> int:
        """One column for each class of leftovers; ``_leftover_columns`` says (group, replicas)."""
        ledger, groups, sizes = self.ledger, self.groups, len(self.sizes)
        demand, dims = ledger.demand, ledger.need.shape[1]
        for c, places in sorted(ledger.leftovers.items()):
            g = int(groups.group[c])
            for (node, devices), count in places.items():
                entries: list[tuple[str, int, float]] = [
                    ("group", g, 1.0),
                    ("level", int(demand.level[c]), -groups.weight[g] / WORTH),
                    *(("limit", i, n) for i, n in enumerate(demand.limit_need[c].tolist())),
                ]
                if node >= 0:
                    entries += [("node", node * dims + k, groups.need[g, k]) for k in range(dims)]
                for j in devices:
                    if ledger.is_share[c]:
                        row = int(size_row(self.sizes, ledger.milli[c : c + 1])[0])
                        entries.append(("share", j * sizes + row, 1.0))
                        entries.append(("milli", j, groups.milli[g] * self._is_coarse))
                        entries.append(("memory", j, groups.memory[g]))
                    else:
                        entries.append(("whole", j, 1.0))
                for name, row, value in entries:
                    self._rows.put(name, np.array([row]), np.array([width]), value)
                self._leftover_columns.append((g, count))
                width += 1
        return width

    def _row_bounds(self) -> tuple[Floats, Floats]:
        """The least and the most of each row."""
        ledger, groups, cluster = self.ledger, self.groups, self.ledger.cluster
        lower, upper = np.full(self._rows.height, -np.inf), np.zeros(self._rows.height)
        lower[: len(groups.first)] = groups.fewest
        most: dict[str, npt.ArrayLike] = {
            "group": groups.most,
            "node": cluster.total,
            "whole": cluster.free[:, -1],
            "part": self._part_count,
            "memory": [-(-m >> ledger.memory_unit) for m in cluster.free_memory_mib],
            "cut": ledger.cut_total,
            "limit": [limit.left for limit in ledger.demand.limits],
            "level": np.full(len(ledger.demand.levels), np.inf),
        }
        for name, values in most.items():
            flat = np.asarray(values, dtype=np.float64).ravel()
            upper[self._rows.start[name] :][: len(flat)] = flat
        return lower, upper

    def _solver(self, seconds: float | None, iterations: int | None) -> highspy.Highs:
        highs = highspy.Highs()
        highs.setOptionValue("output_flag", False)
        highs.setOptionValue("threads", 1)
        highs.setOptionValue("parallel", "off")
        highs.setOptionValue("solver", "simplex")
        highs.setOptionValue("random_seed", 0)
        if seconds is not None:
            highs.setOptionValue("time_limit", seconds)
        if iterations is not None:
            highs.setOptionValue("simplex_iteration_limit", iterations)
        width = self.width
        start, row, value = self._rows.compressed(width)
        highs.passModel(
            width,
            self._rows.height,
            len(value),
            int(highspy.MatrixFormat.kColwise),
            int(highspy.ObjSense.kMaximize),
            0.0,
            np.zeros(width),
            np.zeros(width),
            self.upper,
            *self._row_bounds(),
            start.astype(np.int32),
            row.astype(np.int32),
            value,
            np.zeros(width, dtype=np.int32),
        )
        return highs

    def solve(self, level: int, at_least: dict[int, float]) -> tuple[Prices, Floats] | None:
        """Prices and the columns' values at the best ``level`` while others keep ``at_least``.

        None where HiGHS had no time for even a first basis. Both are proposals only.
        """
        highs, levels = self._highs, len(self.ledger.demand.levels)
        width = self.width
        # A level that was solved before starts from where it ended: only what others keep has
        # changed, so the dual simplex has little to do. A new one starts from the level above,
        # with the primal simplex: what was feasible still is. (Cold, the primal is faster too.)
        known = self._bases.get(level)
        strategy = PRIMAL_SIMPLEX if known is None else DUAL_SIMPLEX
        highs.setOptionValue("simplex_strategy", strategy)
        if known is not None:
            highs.setBasis(known)
        cost = np.where(self.cost_level == level, self.cost, 0.0)
        highs.changeColsCost(width, np.arange(width, dtype=np.int32), cost)
        for other in range(levels):
            kept = at_least.get(other)
            upper = np.inf if kept is None else -kept / WORTH
            highs.changeRowBounds(self._rows.start["level"] + other, -np.inf, upper)
        highs.run()
        if known is None and highs.getModelStatus() == highspy.HighsModelStatus.kOptimal:
            self._bases[level] = highs.getBasis()
        solution = highs.getSolution()
        if not (solution.dual_valid and solution.value_valid):
            return None
        dual = np.asarray(solution.row_dual, dtype=np.float64)
        value = np.asarray(solution.col_value, dtype=np.float64)
        if not np.isfinite(dual).all():
            return None
        return self._prices(np.maximum(dual, 0.0)), value

    def shares(self, columns: Floats) -> Floats:
        """[G, C] replicas of each group on each class of nodes, given the columns' values."""
        shape = len(self.groups.first), len(self.ledger.cluster.size)
        found = np.zeros(shape)
        np.add.at(found, (self._group_of, self._node_of), columns[: len(self._group_of)])
        return found

    def _prices(self, dual: Floats) -> Prices:
        ledger = self.ledger
        prices = ledger.prices()
        one = float(1 << ledger.bits)

        def of(name: str, shape: tuple[int, ...], most: float, unit: float = WORTH * one) -> Ints:
            start = self._rows.start[name]
            values = dual[start : start + int(np.prod(shape))].reshape(shape) * unit
            return np.minimum(np.rint(values), most).astype(np.int64)

        steps = of("share", (len(prices.share), len(self.sizes)), LARGEST_PRICE)
        milli = np.arange(self.sizes[-1] if self.sizes else 0, WHOLE_DEVICE_MILLI + 1)
        share = prices.share.copy()
        if self.sizes:
            share[:, milli] = np.maximum.accumulate(steps[:, size_row(self.sizes, milli)], axis=1)
        per_milli = of("milli", prices.whole.shape, LARGEST_PRICE >> 10)
        share += per_milli[:, None] * np.arange(WHOLE_DEVICE_MILLI + 1)
        largest = max(1, int(ledger.cluster.memory_mib.max(initial=0)) >> ledger.memory_unit)
        heaviest = int(ledger.weight[ledger.has_room].max(initial=1))
        return Prices(
            node=of("node", prices.node.shape, LARGEST_COST),
            share=share,
            whole=of("whole", prices.whole.shape, LARGEST_PRICE),
            memory=of("memory", prices.memory.shape, LARGEST_COST // (2 * largest)),
            cut=of("cut", prices.cut.shape, LARGEST_PRICE),
            limit=of("limit", prices.limit.shape, LARGEST_COST),
            level=of("level", prices.level.shape, LARGEST_COST // heaviest, one),
        )
