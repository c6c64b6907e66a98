"""Patterns of shares, groups of sizes, and the knapsack that prices are held against."""

from itertools import combinations, product

import numpy as np

from solver.arrays import as_arrays
from solver.highs.patterns import grouped, patterns
from solver.highs.relaxation import Relaxation
from solver.problem import Device, Node, Problem, Request, Task


def test_patterns_are_all_that_cannot_be_added_to() -> None:
    sizes, demand = [810, 460, 330, 190], [9, 1, 2, 9]
    ways = {
        way
        for way in product(*(range(limit + 1) for limit in demand))
        if np.dot(way, sizes) <= 1000
    }
    expected = {way for way in ways if not any(add(way, i) in ways for i in range(len(sizes)))}
    found = patterns(sizes, demand, 1000, 1000)
    assert found is not None
    assert set(found) == expected
    assert len(found) == len(expected)


def add(way: tuple[int, ...], i: int) -> tuple[int, ...]:
    return (*way[:i], way[i] + 1, *way[i + 1 :])


def test_too_many_patterns_are_none() -> None:
    sizes = list(range(300, 50, -5))
    assert patterns(sizes, [9] * len(sizes), 1000, 500) is None


def test_groups_lose_as_little_as_any() -> None:
    rng = np.random.default_rng(3)
    sizes = np.sort(rng.choice(np.arange(50, 1000), 9, replace=False))
    count = rng.integers(1, 20, 9).astype(float)

    def loss(starts: list[int]) -> float:
        below = np.array(sorted(starts))
        down = below[np.searchsorted(below, sizes, side="right") - 1]
        return float((count * (sizes - down)).sum())

    for groups in (1, 2, 4, 8):
        found = grouped(sizes, count, groups)
        assert len(found) <= groups
        least = min(
            loss([int(sizes[0]), *map(int, rest)]) for rest in combinations(sizes[1:], groups - 1)
        )
        assert loss(found) == least


def most_of_each_price(
    sizes: tuple[int, ...], replicas: tuple[int, ...], price: list[int]
) -> list[tuple[int, ...]]:
    """Ways to choose shares; of those that cost the same, any as if of the smallest size."""
    pooled = [0] * len(sizes)
    for i, count in enumerate(replicas):
        pooled[price.index(price[i])] += count
    limits = [min(n, 1000 // size) for n, size in zip(pooled, sizes, strict=True)]
    return [
        way
        for way in product(*(range(limit + 1) for limit in limits))
        if np.dot(way, sizes) <= 1000
    ]


def test_fillings_are_the_dearest_shares_that_fit() -> None:
    sizes, replicas = (110, 190, 330, 460, 500, 660, 810), (9, 2, 9, 1, 9, 9, 9)
    tasks = tuple(
        Task(id=f"t{size}", replicas=n, min_replicas=1, request=Request(gpus=1, gpu_milli=size))
        for size, n in zip(sizes, replicas, strict=True)
    )
    node = Node(id="n", devices=(Device(id="g"),))
    ledger = Relaxation(as_arrays(Problem(version=1, nodes=(node,), tasks=tasks))).ledger
    rng = np.random.default_rng(5)
    for _ in range(5):
        prices = ledger.prices()
        price = np.sort(rng.integers(0, 1000, len(sizes)))
        for size, worth in zip(sizes, price.tolist(), strict=True):
            prices.share[0, size:] = worth
        ways = most_of_each_price(sizes, replicas, price.tolist())
        for room in (0, 189, 190, 500, 840, 999, 1000):
            best = max(int(np.dot(way, price)) for way in ways if np.dot(way, sizes) <= room)
            assert ledger.fillings(prices.share)[0, room] == best
        lifted = ledger.lifted(prices)
        assert (lifted.share >= prices.share).all()
        assert ledger.fillings(lifted.share)[0, 1000] == ledger.fillings(prices.share)[0, 1000]
