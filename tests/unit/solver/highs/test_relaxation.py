"""The relaxation: a bound that no plan beats, whatever the linear program said."""

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from solver.arrays import as_arrays
from solver.greedy import place_quickly
from solver.highs.prices import Prices
from solver.highs.relaxation import Relaxation
from solver.pipeline import solve
from solver.problem import Budget, Device, Node, Problem, Queue, Request, Slot, Task
from solver.score import placed
from tests.problems import random_problem

HUGE = 2**53


def relaxed(problem: Problem) -> Relaxation:
    return Relaxation(as_arrays(problem))


def cluster(*tasks: Task, nodes: int = 1, devices: int = 1, **rest: Any) -> Problem:
    """Equal nodes of 16 cores and some devices."""
    machines = tuple(
        Node(
            id=f"n{i}",
            cpu_milli=16_000,
            devices=tuple(Device(id=f"g{j}", model="A100") for j in range(devices)),
        )
        for i in range(nodes)
    )
    return Problem(version=1, nodes=machines, tasks=tasks, **rest)


def shares(count: int, milli: int, **rest: Any) -> tuple[Task, ...]:
    request = Request(gpus=1, gpu_milli=milli)
    return tuple(replace(Task(id=f"s{milli}-{i}", request=request), **rest) for i in range(count))


def placed_only(seed: int) -> Problem:
    problem = random_problem(seed, nodes=4, devices=4, tasks=9)
    budget = replace(problem.budget, deterministic=True, seconds=2.0)
    return replace(problem, objective=("placed",), budget=budget)


Case = tuple[int, dict[int, int], int, int]
"""(seed, values of the levels above, level, its value in the best plan)"""


@pytest.fixture(scope="module")
def proven() -> list[Case]:
    """What the exact search proved, as far down the levels as it did."""
    found: list[Case] = []
    for seed in range(14):
        above: dict[int, int] = {}
        for term in solve(placed_only(seed)).objective:
            if term.value != term.bound:
                break
            if term.level is not None:
                found.append((seed, dict(above), term.level, term.value))
                above[term.level] = term.value
    return found


def test_no_best_plan_beats_the_bound(proven: list[Case]) -> None:
    tight = 0
    for seed, above, level, value in proven:
        bound = relaxed(placed_only(seed)).bound(level, above)
        assert bound >= value, (seed, level)
        tight += bound == value
    assert tight > len(proven) // 2 > 10


def test_any_prices_prove_a_bound(proven: list[Case]) -> None:
    for seed, above, level, value in proven:
        relaxation = relaxed(placed_only(seed))
        ledger, levels = relaxation.ledger, relaxation.levels
        kept = {levels.index(other): worth for other, worth in above.items()}
        for prices in perturbed(relaxation, levels.index(level), seed):
            assert ledger.bound(levels.index(level), prices, kept) >= value, (seed, level)


def perturbed(relaxation: Relaxation, row: int, seed: int) -> Iterator[Prices]:
    """Prices that no linear program would propose: scaled at random, or drawn at random."""
    rng = np.random.default_rng(seed)
    found = relaxation.program.solve(row, {})  # None where nothing has room
    proposed = relaxation.ledger.prices() if found is None else found[0]
    for most in (1, 2**20, 2**36, 2**44):
        changed = {}
        for field in fields(Prices):
            values = getattr(proposed, field.name)
            drawn = rng.integers(0, most, values.shape)
            changed[field.name] = (values * rng.uniform(0.5, 1.5, values.shape) + drawn).astype(int)
        changed["share"] = np.maximum.accumulate(np.minimum(changed["share"], 2**46), axis=1)
        changed["level"] = np.minimum(changed["level"], 2**36)
        changed["memory"] = np.minimum(changed["memory"], 2**40)
        yield Prices(**changed)
        yield relaxation.ledger.lifted(Prices(**changed))


def test_shares_that_leave_a_rest_are_bounded_by_what_fits_on_a_device() -> None:
    problem = cluster(*shares(9, 600), *shares(9, 350), nodes=2, devices=2)
    assert relaxed(problem).bound(0, {}) == 4 * 950


def test_replicas_that_do_not_divide_a_nodes_devices_leave_some_idle() -> None:
    threes = tuple(Task(id=f"t{i}", request=Request(gpus=3)) for i in range(9))
    assert relaxed(cluster(*threes, nodes=3, devices=8)).bound(0, {}) == 3 * 2 * 3000


def test_device_memory_bounds_shares() -> None:
    request = Request(gpus=1, gpu_milli=100, gpu_memory_mib=6)
    tasks = tuple(Task(id=f"t{i}", request=request) for i in range(9))
    node = Node(id="n", devices=(Device(id="a", memory_mib=18), Device(id="b", memory_mib=4)))
    assert relaxed(Problem(version=1, nodes=(node,), tasks=tasks)).bound(0, {}) == 300


def test_what_may_not_be_touched_keeps_its_devices() -> None:
    running = tuple(
        Task(
            id=f"r{i}",
            request=Request(gpus=1, gpu_milli=300),
            preemptible=False,
            placed=(Slot(node=f"n{i}", devices=("g0",)),),
        )
        for i in range(2)
    )
    pair = Task(id="pair", request=Request(gpus=2))
    problem = cluster(*running, pair, *shares(3, 800), nodes=2, devices=2)
    assert relaxed(problem).bound(0, {}) == 2 * 300 + 2 * 800
    free = replace(problem, tasks=tuple(replace(t, preemptible=True) for t in problem.tasks))
    assert relaxed(free).bound(0, {}) > 2 * 300 + 2 * 800
    held = replace(free, budget=Budget(max_moves=0))
    assert relaxed(held).bound(0, {}) == 2 * 300 + 2 * 800


def test_what_runs_where_nothing_new_may_go_still_counts() -> None:
    problem = cluster(
        *shares(1, 400, placed=(Slot(node="n0", devices=("g0",)),)),
        *shares(1, 500, placed=(Slot(node="n1", devices=("g0",)),), gpu_models=("H100",)),
        *shares(3, 600),
        nodes=2,
    )
    first, second = problem.nodes
    cordoned = replace(problem, nodes=(replace(first, schedulable=False), second))
    assert relaxed(cordoned).bound(0, {}) == 400 + 500
    lost = replace(first, devices=(replace(first.devices[0], healthy=False),))
    assert relaxed(replace(problem, nodes=(lost, second))).bound(0, {}) == 400 + 500


def test_an_overfull_device_may_keep_what_it_holds() -> None:
    slot = Slot(node="n0", devices=("g0",))
    problem = cluster(*shares(2, 700, placed=(slot,)), *shares(1, 300))
    assert relaxed(problem).bound(0, {}) >= 1400


def test_a_running_task_that_nothing_may_displace_keeps_its_room() -> None:
    modest = Task(id="m", request=Request(cpu_milli=10_000), placed=(Slot(node="n0"),))
    greedy = Task(id="g", request=Request(cpu_milli=10_000, gpus=1))
    problem = cluster(modest, greedy)
    assert relaxed(problem).bound(0, {}) < 1000
    queues = (Queue(id="q", guaranteed={"gpus": 1}),)
    reclaimed = replace(problem, tasks=(modest, replace(greedy, queue="q")), queues=queues)
    assert relaxed(reclaimed).bound(0, {}) >= 1000


def test_limits_of_queues_bound_their_tasks() -> None:
    queues = (Queue(id="all", limit={"gpus": 3}), Queue(id="q", parent="all"))
    problem = cluster(*shares(9, 500, queue="q"), devices=4, queues=queues)
    assert relaxed(problem).bound(0, {}) == 1500


def test_a_gang_that_cannot_run_whole_counts_for_nothing() -> None:
    gang = Task(id="g", replicas=3, request=Request(gpus=1), pack_within="node")
    assert relaxed(cluster(gang, nodes=4, devices=2)).bound(0, {}) == 0
    assert relaxed(cluster(replace(gang, pack_within=None), nodes=4)).bound(0, {}) == 3000


def test_what_other_levels_keep_is_not_left_to_this_one() -> None:
    high = shares(2, 600, priority=5)
    problem = cluster(*high, *shares(4, 400), devices=2)
    relaxation = relaxed(problem)
    assert relaxation.bound(5, {}) == 1200
    assert relaxation.bound(0, {}) == 1600
    assert relaxation.bound(0, {5: 1200}) == 800
    assert relaxation.bounds((1200, 800)) == (1200, 800)
    # Level 5 isn't proven at 600, so level 0 is bounded for that much and no more.
    assert relaxation.bounds((600, 0)) == (1200, 1200)


def test_quantities_up_to_the_largest_are_bounded() -> None:
    nodes = tuple(
        Node(id=f"n{i}", cpu_milli=HUGE, devices=(Device(id="a", memory_mib=HUGE),))
        for i in range(2)
    )
    tasks = (
        *(Task(id=f"c{i}", request=Request(cpu_milli=HUGE)) for i in range(3)),
        *shares(7, 300, request=Request(gpus=1, gpu_milli=300, gpu_memory_mib=HUGE // 2)),
        Task(id="wide", request=Request(gpus=HUGE)),
    )
    queues = (Queue(id="default", limit={"cpu_milli": HUGE, "gpu_memory_mib": HUGE}),)
    problem = Problem(version=1, nodes=nodes, tasks=tasks)
    assert relaxed(problem).bound(0, {}) == 2 + 1200
    assert relaxed(replace(problem, queues=queues)).bound(0, {}) == 1 + 600


@pytest.mark.parametrize(("nodes", "tasks"), [(0, 0), (0, 3), (3, 0)])
def test_nothing_to_place_or_nowhere_to_place_it(nodes: int, tasks: int) -> None:
    relaxation = relaxed(cluster(*shares(tasks, 500), nodes=nodes))
    assert relaxation.bounds((0,) * len(relaxation.levels)) == (0,) * len(relaxation.levels)


def nearly_unique(nodes: int, tasks: int) -> Problem:
    rng = np.random.default_rng(7)
    sizes = rng.choice((190, 330, 460, 500, 810), tasks) * rng.uniform(0.9, 1.1, tasks)
    asked = tuple(
        Task(
            id=f"t{i}",
            priority=int(i % 4 == 0),
            request=Request(cpu_milli=int(rng.integers(500, 6000)), gpus=1, gpu_milli=int(size)),
        )
        for i, size in enumerate(sizes.tolist())
    )
    return cluster(*asked, nodes=nodes, devices=4)


def test_nearly_unique_demands_are_bounded_closely() -> None:
    problem = nearly_unique(30, 400)
    relaxation = relaxed(problem)
    values = tuple(placed(problem, place_quickly(problem)).values())
    bounds = relaxation.bounds(values)
    assert all(bound >= value for bound, value in zip(bounds, values, strict=True))
    assert sum(bounds) < 1.02 * sum(relaxation.values) <= 1.02 * 1000 * 4 * 30


@pytest.mark.parametrize("stop", [{"seconds": 0.0}, {"iterations": 1}, {"iterations": 40}])
def test_a_program_that_is_stopped_early_proves_less_but_nothing_wrong(
    stop: dict[str, float],
) -> None:
    problem = nearly_unique(30, 400)
    full = relaxed(problem)
    values = tuple(placed(problem, place_quickly(problem)).values())
    for level, above in ((1, {}), (0, {1: values[0]})):
        stopped = Relaxation(as_arrays(problem), **stop).bound(level, above)
        assert full.bound(level, above) <= stopped <= 1000 * 4 * 30


def test_guidance_accounts_for_what_the_program_places() -> None:
    problem = nearly_unique(30, 400)
    relaxation = relaxed(problem)
    guidance = relaxation.guidance(0)
    replicas = np.bincount(guidance.task_class, minlength=len(guidance.share))
    assert (guidance.share.sum(axis=1) <= replicas + 1e-6).all()
    assert guidance.worth.tolist()[1] == 1.0
    # What a replica gains beyond its room, plus what the room costs, is the bound.
    (j,) = set(guidance.device_class.tolist())
    gains = [
        guidance.worth[1 - task.priority] * task.request.weight
        - guidance.share_price[j, task.request.gpu_milli]
        - task.request.cpu_milli * guidance.node_price[0, 0]
        for task in problem.tasks
    ]
    room = 120 * guidance.share_price[j, 1000] + 30 * 16_000 * guidance.node_price[0, 0]
    above = guidance.worth[0] * relaxation.values[0]
    proven = sum(max(0.0, gain) for gain in gains) + room - above
    assert proven == pytest.approx(relaxation.values[1], rel=0.01)


def test_prices_name_what_one_more_unit_is_worth() -> None:
    scarce = cluster(*shares(9, 500), devices=2)
    assert relaxed(scarce).prices(0)["gpu_milli"] == {"A100": 1.0}
    assert relaxed(scarce).node_worth(0).tolist() == [2000.0]
    ample = cluster(*shares(3, 500), devices=2)
    assert relaxed(ample).prices(0)["gpu_milli"] == {"A100": 0.0}
    tasks = tuple(Task(id=f"t{i}", request=Request(gpus=1, cpu_milli=8_000)) for i in range(9))
    assert relaxed(cluster(*tasks, devices=8)).prices(0)["cpu_milli"] == {"A100": 0.125}
