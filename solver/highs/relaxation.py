"""The relaxation of a problem: bounds, prices and guidance for whoever builds the plan.

    relaxation = Relaxation(as_arrays(problem), seconds=1.0)
    relaxation.bounds((4100, 52_000))     proven, for a plan with these values of ``placed``
    relaxation.bound(0, {10: 4100})       proven: of level 0, when level 10 has at least 4100
    relaxation.guidance(0)                classes, shares and prices that led to the bound
    relaxation.prices(0)                  the plan's ``prices``

Levels are named by their priority. Nothing here is random or reads a clock; the same arrays give
the same answers as long as HiGHS isn't stopped by ``seconds``.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from solver.arrays import Arrays, Ints
from solver.highs.classes import classify
from solver.highs.demand import demand_of
from solver.highs.groups import Floats
from solver.highs.prices import Ledger, Prices
from solver.highs.program import WORTH, Program
from solver.highs.running import running
from solver.objective import NODE_DIMENSIONS
from solver.problem import WHOLE_DEVICE_MILLI

SLACK = 1e-7
"""What a level may lose of what it reached, so that rounding makes no program infeasible."""

MOST_NODE_PRICES = 64


@dataclass(frozen=True, slots=True)
class Guidance:
    """Where the linear program would put things, and what room is worth to it in one level.

    A task of weight w gains at node n, devices of class j:
    ``worth[level] * w - need @ node_price[node_class[n]] - gpus * share_price[j, milli]``, and pays
    ``cut_price`` besides for each entry of ``cuts`` that its number of devices reaches.
    """

    node_class: Ints
    """[N] -1 for cordoned nodes."""
    device_class: Ints
    """[D] -1 for devices that take nothing new."""
    task_class: Ints
    """[T] -1 for tasks that fit nowhere."""
    share: Floats
    """[task classes, node classes] replicas there, of those that aren't fixed; all levels done."""
    node_price: Floats
    """[node classes, K] of one unit of each of ``NODE_DIMENSIONS``."""
    share_price: Floats
    """[device classes, 1001] of a share of so many milli; [.., 1000] is a whole device."""
    cuts: tuple[int, ...]
    """Numbers of devices that don't divide those of a node."""
    cut_price: Floats
    """[node classes, cuts] of the place of a replica of at least so many devices."""
    worth: Floats
    """[levels, highest first] of one unit of weight; 0 for those below the level asked about."""


class Relaxation:
    """Proven bounds on ``placed``, with prices and guidance: see the module."""

    def __init__(
        self, arrays: Arrays, *, seconds: float | None = None, iterations: int | None = None
    ) -> None:
        """Solves one linear program for each level, higher levels held at what they reached.

        ``seconds`` is the time HiGHS may take for all of them (None in the deterministic preset),
        ``iterations`` how many simplex iterations for each. Stopped early, all still holds.
        """
        runs = running(arrays)
        self.arrays = arrays
        self.cluster = classify(arrays, runs)
        self.demand = demand_of(arrays, runs, self.cluster)
        self.ledger = Ledger(arrays, runs, self.cluster, self.demand)
        self.program = Program(self.ledger, seconds, iterations)
        self.levels = self.demand.levels
        self.values: list[float] = []
        """What the program reached in each level, fixed tasks included: an estimate, no bound."""
        self._proposals: list[Prices] = []
        self._columns: Floats = np.zeros(self.program.width)
        self._known: dict[tuple[int, tuple[tuple[int, int], ...]], int] = {}
        self._solve_levels()

    def _solve_levels(self) -> None:
        kept: dict[int, float] = {}
        for level, fixed in enumerate(self.demand.fixed_value):
            found = self.program.solve(level, kept)
            if found is None:
                prices = self.ledger.prices()
            else:
                prices, self._columns = found
            self._proposals.append(prices)
            at = self.program.cost_level == level
            value = float(self.program.cost[at] @ self._columns[at]) * WORTH
            self.values.append(value + fixed)
            kept[level] = value * (1 - SLACK)
        self._reached = kept

    def bound(self, level: int, at_least: Mapping[int, int]) -> int:
        """No plan with at least that in these other levels has more than this in ``level``."""
        row = self.levels.index(level)
        kept = {self.levels.index(other): value for other, value in at_least.items()}
        key = row, tuple(sorted(kept.items()))
        if key not in self._known:
            fixed = self.demand.fixed_value
            # Merged groups may fall short of a value that a plan has, and an infeasible program
            # proposes nothing of use.
            asked = {
                other: min(float(value - fixed[other]), self._reached[other])
                for other, value in kept.items()
            }
            found = self.program.solve(row, asked)
            tried = [self.ledger.prices(), self.ledger.plain_prices(), self._proposals[row]]
            if found is not None:
                tried += [found[0], self.ledger.lifted(found[0])]
            self._known[key] = min(self.ledger.bound(row, prices, kept) for prices in tried)
        return self._known[key]

    def bounds(self, values: Sequence[int]) -> tuple[int, ...]:
        """One for each level, highest first, given a plan's values in them.

        The best plan has at least the value in a level of which all higher ones are proven; below
        the first level that isn't, it might have less. So no more than those are presumed.
        """
        kept: dict[int, int] = {}
        found = []
        proven = True
        for level, value in zip(self.levels, values, strict=True):
            found.append(self.bound(level, kept))
            if proven:
                kept[level] = value
                proven = found[-1] == value
        return tuple(found)

    def guidance(self, level: int) -> Guidance:
        """Shares after all levels, and the prices at which ``level`` was solved."""
        prices = self._proposals[self.levels.index(level)]
        worth = prices.level / self._one
        worth[self.levels.index(level)] += 1.0
        share = self.program.shares(self._columns)
        share_price = prices.share / self._one
        share_price[:, WHOLE_DEVICE_MILLI] = self._device_price(prices)
        return Guidance(
            node_class=self.cluster.node_class,
            device_class=self.cluster.device_class,
            task_class=self.program.groups.group[self.demand.task_class],
            share=share,
            node_price=self._node_price(prices),
            share_price=share_price,
            cuts=tuple(self.ledger.cuts),
            cut_price=prices.cut / self._one,
            worth=worth,
        )

    def prices(self, level: int) -> dict[str, dict[str, float]]:
        """Dimension -> model of device -> what one more unit is worth in the level.

        A model's price is the mean over its devices, or over the room of the nodes that have any
        of it; nodes without devices count as the model "". Rounded to 6 digits.
        """
        proposal = self._proposals[self.levels.index(level)]
        device, node = self._device_price(proposal), self._node_price(proposal)
        sums: defaultdict[tuple[str, str], float] = defaultdict(float)
        amounts: defaultdict[tuple[str, str], float] = defaultdict(float)
        cluster = self.cluster
        seen: dict[tuple[int, str], int] = {}
        counts: defaultdict[tuple[int, str], int] = defaultdict(int)
        at = 0
        for number, where in zip(
            self.arrays.problem.nodes, cluster.node_class.tolist(), strict=True
        ):
            if where >= 0:
                for model in dict.fromkeys(d.model for d in number.devices) or [""]:
                    counts[where, model] += 1
            for d in number.devices:
                j = int(cluster.device_class[at])
                at += 1
                if j >= 0:
                    seen[j, d.model] = seen.get((j, d.model), 0) + 1
        for (j, model), count in seen.items():
            sums["gpu_milli", model] += count * float(device[j]) / WHOLE_DEVICE_MILLI
            amounts["gpu_milli", model] += count
        mean_room = cluster.total / np.maximum(cluster.size, 1)[:, None]
        for (where, model), count in counts.items():
            for k, dimension in enumerate(NODE_DIMENSIONS):
                amount = count * float(mean_room[where, k])
                sums[dimension, model] += amount * float(node[where, k])
                amounts[dimension, model] += amount
        found: dict[str, dict[str, float]] = {}
        for dimension, model in sorted(sums):
            amount = amounts[dimension, model]
            price = sums[dimension, model] / amount if amount else 0.0
            found.setdefault(dimension, {})[model] = float(f"{price:.6g}")
        return found

    def node_worth(self, level: int) -> Floats:
        """[node classes] what one more average node of the class is worth in the level."""
        proposal = self._proposals[self.levels.index(level)]
        cluster = self.cluster
        worth = (cluster.total * proposal.node).sum(axis=1) / self._one
        devices = cluster.free[:, -1] * self._device_price(proposal)
        worth += np.bincount(cluster.at, weights=devices, minlength=len(worth))
        return worth / np.maximum(cluster.size, 1)

    def node_prices(self, level: int) -> dict[str, float]:
        """The first node of each of the largest classes -> what one more like it is worth in the
        level, rounded to 6 digits.
        """
        classes, first = np.unique(self.cluster.node_class, return_index=True)
        worth = self.node_worth(level)
        largest = sorted(
            (-int(self.cluster.size[c]), int(n))
            for c, n in zip(classes.tolist(), first.tolist(), strict=True)
            if c >= 0
        )[:MOST_NODE_PRICES]
        nodes, of = self.arrays.problem.nodes, self.cluster.node_class
        return {nodes[n].id: float(f"{worth[of[n]]:.6g}") for _, n in sorted(largest)}

    @property
    def _one(self) -> float:
        return float(1 << self.ledger.bits)

    def _node_price(self, prices: Prices) -> Floats:
        return prices.node / self._one / 2.0**self.cluster.unit

    def _device_price(self, prices: Prices) -> Floats:
        fillings = self.ledger.fillings(prices.share)
        return self.ledger.device_prices(prices, fillings) / self._one
