"""Prices of everything that is scarce, and the bound that they prove (docs/model.md, B4).

Any prices prove a bound: no plan is worth more than what the cluster costs at these prices, plus
what each replica is worth beyond the cheapest room that could hold it. Good prices come from a
linear program, but nothing here depends on how it was solved: all is counted in whole numbers, and
whatever is rounded makes the bound larger.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from solver.arrays import Arrays, Flags, Ints
from solver.highs.classes import Cluster
from solver.highs.demand import Demand
from solver.highs.running import Running
from solver.problem import WHOLE_DEVICE_MILLI

LARGEST_COST = 2**57
"""A cost is cut off here, far above what any replica is worth; so no sum leaves 64 bits."""
LARGEST_PRICE = 2**46
"""The same for the price of a share, of which a device holds up to 1000."""
NEVER = -(2**62)
HALF = WHOLE_DEVICE_MILLI // 2


@dataclass(frozen=True, slots=True)
class Prices:
    """Whole numbers, all 0 or more, in 2 ** -``bits`` of a unit of the term that is bounded."""

    node: Ints
    """[C, K] of one unit of room."""
    share: Ints
    """[J, 1001] of a share of so many milli; it never falls as the share grows."""
    whole: Ints
    """[J] of a whole device, if that is more than the shares it could hold."""
    memory: Ints
    """[J] of one unit of device memory, which only shares pay for."""
    cut: Ints
    """[C, cuts] of a place for a replica of at least so many devices."""
    limit: Ints
    """[limits] of one unit of a queue's limit."""
    level: Ints
    """[levels] what one unit of each level adds to a replica's worth."""


class Ledger:
    """A problem's scarce things and what asks for them: turns prices into bounds."""

    def __init__(self, arrays: Arrays, runs: Running, cluster: Cluster, demand: Demand) -> None:
        shapes, shape = arrays.shapes, demand.shape
        self.cluster = cluster
        self.demand = demand
        self.gpus = shapes.gpus[shape]
        self.milli = shapes.milli[shape]
        self.is_share = (self.gpus == 1) & (self.milli < WHOLE_DEVICE_MILLI)
        self.weight = shapes.weight[shape]
        self.need = shapes.need[shape] >> cluster.unit
        largest_memory = int(cluster.memory_mib.max(initial=0))
        self.memory_unit = max(0, largest_memory.bit_length() - 30)
        self.memory = np.where(self.is_share, shapes.memory_mib[shape] >> self.memory_unit, 0)
        self.on_nodes, self.on_devices = self._eligible(arrays)
        self.with_gpu = np.flatnonzero(self.gpus > 0)
        self.without_gpu = np.flatnonzero(self.gpus == 0)
        replicas: Counter[int] = Counter()
        for c in np.flatnonzero(self.is_share).tolist():
            replicas[int(self.milli[c])] += demand.most[c]
        self.sizes = dict(sorted(replicas.items()))
        """Size of a share -> replicas, smallest first."""
        self.cuts, self.cut_total = self._cuts()
        self.leftovers = self._leftovers(runs)
        has_room = np.zeros(len(shape), dtype=np.bool_)
        has_room[self.without_gpu] = self.on_nodes[self.without_gpu].any(axis=1)
        has_room[self.with_gpu] = self.on_devices[self.with_gpu].any(axis=1)
        has_room[list(self.leftovers)] = True
        self.has_room: Flags = has_room
        heaviest = int(self.weight[has_room].max(initial=1))
        self.bits = max(0, min(32, 50 - heaviest.bit_length()))

    def prices(self) -> Prices:
        """Prices of which all are 0."""
        nodes, devices = len(self.cluster.size), len(self.cluster.at)
        return Prices(
            node=np.zeros((nodes, self.need.shape[1]), dtype=np.int64),
            share=np.zeros((devices, WHOLE_DEVICE_MILLI + 1), dtype=np.int64),
            whole=np.zeros(devices, dtype=np.int64),
            memory=np.zeros(devices, dtype=np.int64),
            cut=np.zeros((nodes, len(self.cuts)), dtype=np.int64),
            limit=np.zeros(len(self.demand.limits), dtype=np.int64),
            level=np.zeros(len(self.demand.levels), dtype=np.int64),
        )

    def plain_prices(self) -> Prices:
        """Each GPU milli costs what it counts for, in any level: capacity without fragments."""
        prices = self.prices()
        one = 1 << self.bits
        prices.share[:] = np.arange(WHOLE_DEVICE_MILLI + 1) * one
        prices.whole[:] = WHOLE_DEVICE_MILLI * one
        prices.level[:] = one
        return prices

    def _eligible(self, arrays: Arrays) -> tuple[Flags, Flags]:
        """[classes of tasks, C] and [.., J]: where a new replica could be at all."""
        shapes, shape, cluster = arrays.shapes, self.demand.shape, self.cluster
        rules = shapes.node_accepts.astype(np.int64) @ cluster.kinds.T.astype(np.int64) > 0
        on_nodes = rules[shapes.node_rule[shape]]
        for k in range(self.need.shape[1]):
            on_nodes &= self.need[:, k, None] <= cluster.largest[None, :, k]
        rules = shapes.device_accepts.astype(np.int64) @ cluster.device_kind.T > 0
        on_devices = rules[shapes.device_rule[shape]] & on_nodes[:, cluster.at]
        on_devices &= shapes.memory_mib[shape][:, None] <= cluster.memory_mib[None, :]
        levels = np.arange(cluster.free.shape[1])
        most_free = (levels * (cluster.free > 0)).max(axis=1, initial=0)
        on_devices &= self.milli[:, None] <= most_free[None, :]
        several = np.flatnonzero(self.gpus > 1)
        whole = np.where(on_devices[several], cluster.most_whole, 0)
        in_class = np.zeros((len(cluster.size), len(cluster.at)), dtype=np.int64)
        in_class[cluster.at, np.arange(len(cluster.at))] = 1
        enough = whole @ in_class.T >= self.gpus[several, None]
        on_devices[several] &= enough[:, cluster.at]
        on_devices[self.gpus == 0] = False
        return on_nodes, on_devices

    def _cuts(self) -> tuple[list[int], list[list[int]]]:
        """Numbers of devices g of which a node holds fewer than its devices / g, and per class how
        many replicas of g or more devices its nodes hold.
        """
        cluster = self.cluster
        inside = np.flatnonzero(cluster.node_class >= 0)
        whole, at = cluster.whole[inside], cluster.node_class[inside]
        cuts: list[int] = []
        total: list[list[int]] = [[] for _ in cluster.size]
        for gpus in sorted(set(self.gpus[self.gpus > 1].tolist())):
            if gpus <= int(whole.max(initial=0)) and (whole % gpus).any():
                cuts.append(gpus)
                held = np.bincount(at, weights=whole // gpus, minlength=len(cluster.size))
                for row, places in zip(total, held.tolist(), strict=True):
                    row.append(int(places))
        return cuts, total

    def _leftovers(self, runs: Running) -> dict[int, dict[tuple[int, tuple[int, ...]], int]]:
        """Class of tasks -> (class of nodes or -1, classes of devices) -> replicas."""
        found: defaultdict[int, dict[tuple[int, tuple[int, ...]], int]] = defaultdict(dict)
        cluster = self.cluster
        for (task, node, devices), count in runs.leftovers.items():
            on = -1 if node < 0 else int(cluster.node_class[node])
            held = (int(cluster.device_class[device]) for device in devices)
            place = on, tuple(sorted(j for j in held if j >= 0))
            places = found[int(self.demand.task_class[task])]
            places[place] = places.get(place, 0) + count
        return dict(found)

    def bound(self, level: int, prices: Prices, at_least: Mapping[int, int]) -> int:
        """No plan that is worth ``at_least`` so much in the levels named is worth more than this
        in ``level``; levels are given by index.
        """
        demand = self.demand
        fillings = self.fillings(prices.share)
        device = self.device_prices(prices, fillings)
        total = self._room_worth(prices, fillings, device)
        for other, value in at_least.items():
            total -= int(prices.level[other]) * (value - demand.fixed_value[other])
        profit = self._profit(level, prices, at_least)
        node_cost = self._node_cost(prices)
        best = self._best(prices, device, profit, node_cost)
        for c, gain in enumerate(best.tolist()):
            if c in self.leftovers:
                own = self._device_cost(np.array([c]), prices, device)[0]
                stays = self._stays(c, int(profit[c]), node_cost[c].tolist(), own.tolist())
                total += self._with_leftovers(c, gain, stays)
            elif gain > NEVER:
                total += gain * (demand.most[c] if gain > 0 else demand.fewest[c])
        return demand.fixed_value[level] + max(0, total >> self.bits)

    def lifted(self, prices: Prices) -> Prices:
        """Dearer shares on devices that cost the same: a device holds one share of more than half
        of it, and that may as well cost whatever the best small shares beside it leave.
        """
        small = self._small_fillings(prices.share)
        device = self.device_prices(prices, self.fillings(prices.share))
        device = device - self._rounded_up(self.cluster.memory_mib) * prices.memory
        milli = np.arange(HALF + 1, WHOLE_DEVICE_MILLI)
        share = prices.share.copy()
        left = device[:, None] - small[:, WHOLE_DEVICE_MILLI - milli]
        share[:, milli] = np.maximum(share[:, milli], left)
        share[:, -1] = share[:, -2]
        return replace(prices, share=share)

    def fillings(self, share: Ints) -> Ints:
        """[J, 1001] the most that the shares on a device with so much milli can be worth.

        A knapsack. No more shares of a price are on a device than there are in all.
        """
        small = self._small_fillings(share)
        best = small.copy()
        for size, _ in self._steps(share, HALF + 1, WHOLE_DEVICE_MILLI):
            with_large = small[:, :-size] + share[:, size, None]
            np.maximum(best[:, size:], with_large, out=best[:, size:])
        return best

    def _small_fillings(self, share: Ints) -> Ints:
        """The same of shares that a device has room for two of."""
        best = np.zeros_like(share)
        for size, replicas in self._steps(share, 1, HALF + 1):
            left = min(replicas, WHOLE_DEVICE_MILLI // size)
            copies = 1
            while left:
                # 1, 2, 4, ... copies at once add up to every number of them.
                copies = min(copies, left)
                with_more = best[:, : -copies * size] + copies * share[:, size, None]
                np.maximum(best[:, copies * size :], with_more, out=best[:, copies * size :])
                left -= copies
                copies *= 2
        return best

    def _steps(self, share: Ints, first: int, end: int) -> list[tuple[int, int]]:
        """The sizes from ``first`` on at which a price rises, and how many replicas are of that
        price: of shares that cost the same, only the smallest counts.
        """
        steps: list[tuple[int, int]] = []
        for size, replicas in self.sizes.items():
            if not first <= size < end:
                continue
            if steps and (share[:, size] == share[:, steps[-1][0]]).all():
                steps[-1] = steps[-1][0], steps[-1][1] + replicas
            else:
                steps.append((size, replicas))
        return steps

    def device_prices(self, prices: Prices, fillings: Ints) -> Ints:
        """[J] of a whole device: whichever of its uses is worth most."""
        memory = self._rounded_up(self.cluster.memory_mib) * prices.memory
        return np.maximum(prices.whole, fillings[:, -1] + memory)

    def _rounded_up(self, memory_mib: Ints) -> Ints:
        return -(-memory_mib >> self.memory_unit)

    def _room_worth(self, prices: Prices, fillings: Ints, device: Ints) -> int:
        """What all that is scarce costs."""
        cluster = self.cluster
        pairs = [
            (cluster.total.ravel().tolist(), prices.node.ravel().tolist()),
            (cluster.free[:, -1].tolist(), device.tolist()),
            (cluster.free[:, :-1].ravel().tolist(), fillings[:, :-1].ravel().tolist()),
            ([-(-m >> self.memory_unit) for m in cluster.free_memory_mib], prices.memory.tolist()),
            ([places for row in self.cut_total for places in row], prices.cut.ravel().tolist()),
            ([limit.left for limit in self.demand.limits], prices.limit.tolist()),
        ]
        return sum(
            quantity * price
            for quantities, costs in pairs
            for quantity, price in zip(quantities, costs, strict=True)
            if price and quantity
        )

    def _profit(self, level: int, prices: Prices, at_least: Mapping[int, int]) -> Ints:
        """[classes of tasks] what a replica is worth, less what it takes from queues' limits."""
        demand = self.demand
        worth = np.zeros_like(prices.level)
        worth[list(at_least)] = prices.level[list(at_least)]
        worth[level] += 1 << self.bits
        weight = np.where(self.has_room, self.weight, 0)
        profit = weight * worth[demand.level]
        for row, price in enumerate(prices.limit.tolist()):
            cost = _cost(demand.limit_need[:, row], np.int64(price))
            profit = np.maximum(profit - cost, -LARGEST_COST)
        return profit

    def _node_cost(self, prices: Prices) -> Ints:
        """[classes of tasks, C] of a replica's cpu, memory, disk and network."""
        cost = np.zeros((len(self.need), len(prices.node)), dtype=np.int64)
        for k in range(self.need.shape[1]):
            if prices.node[:, k].any():
                cost += _cost(self.need[:, k, None], prices.node[None, :, k])
        return cost

    def _best(self, prices: Prices, device: Ints, profit: Ints, node_cost: Ints) -> Ints:
        """[classes of tasks] profit of a new replica where that is largest, NEVER without room."""
        best = np.full(len(profit), NEVER, dtype=np.int64)
        rows = self.without_gpu
        gain = np.where(self.on_nodes[rows], profit[rows, None] - node_cost[rows], NEVER)
        best[rows] = gain.max(axis=1, initial=NEVER)
        rows = self.with_gpu
        node_cost = node_cost[rows]
        for i, gpus in enumerate(self.cuts):
            node_cost[self.gpus[rows] >= gpus] += prices.cut[None, :, i]
        cost = node_cost[:, self.cluster.at] + self._device_cost(rows, prices, device)
        gain = np.where(self.on_devices[rows], profit[rows, None] - cost, NEVER)
        best[rows] = gain.max(axis=1, initial=NEVER)
        return best

    def _device_cost(self, rows: Ints, prices: Prices, device: Ints) -> Ints:
        """[rows, J] of all devices of a replica."""
        whole = _cost(self.gpus[rows, None], device[None, :])
        share = prices.share[:, np.minimum(self.milli[rows], WHOLE_DEVICE_MILLI)].T
        share = share + _cost(self.memory[rows, None], prices.memory[None, :])
        return np.where(self.is_share[rows, None], share, whole)

    def _stays(
        self, c: int, profit: int, node_cost: list[int], device_cost: list[int]
    ) -> list[tuple[int, int]]:
        """(profit, how many) of the replicas of a class that may stay where they couldn't go."""
        gpus = max(1, int(self.gpus[c]))
        stays = []
        for (node, devices), count in self.leftovers[c].items():
            cost = sum(device_cost[j] for j in devices) // gpus
            stays.append((profit - cost - (node_cost[node] if node >= 0 else 0), count))
        return stays

    def _with_leftovers(self, c: int, best: int, stays: list[tuple[int, int]]) -> int:
        """What the class is worth beyond its costs when some of its replicas may stay for less.

        With v for each replica of the class, leftovers count what they are worth beyond v; any v
        that isn't below the best new room proves a bound, and the least of those bounds is at one
        of the points tried.
        """
        most, fewest = self.demand.most[c], self.demand.fewest[c]
        return min(
            v * (most if v > 0 else fewest)
            + sum(count * max(0, worth - v) for worth, count in stays)
            for v in {max(best, v) for v in (0, *(worth for worth, _ in stays))}
        )


def _cost(quantity: Ints, price: Ints | np.int64) -> Ints:
    """quantity x price, cut off where it would be more than anything is worth."""
    least = LARGEST_COST // np.maximum(price, 1)
    return np.minimum(quantity, least) * price
