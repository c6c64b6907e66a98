"""What shares promise, played in rounds: bands, the problem, the solver, and again."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.planning.bands import Ranking, rank
from solver.pipeline import solve
from solver.problem import Budget, Device, Node, Problem, Queue, Request, Slot, Task

BUDGET = Budget(deterministic=True, seconds=1, max_moves=4)
A_WHILE = 12
"""Rounds. With four moves in each, nothing of these sizes takes as many."""


@dataclass
class World:
    """Tasks that never end, placed round after round; what a plan says is done at once."""

    nodes: Sequence[Node]
    queues: Sequence[Queue]
    tasks: list[Task]
    usage: Mapping[str, float] = field(default_factory=dict)
    displacements: list[tuple[str, str]] = field(default_factory=list)
    """(who lost its place, a queue that gained in that round)"""

    def rank(self) -> Ranking:
        return rank(self.nodes, self.tasks, self.queues, self.usage)

    def round(self) -> bool:
        """Whether it changed anything."""
        ranking = self.rank()
        problem = Problem(
            version=1,
            nodes=tuple(self.nodes),
            tasks=tuple(replace(task, priority=ranking.level(task)) for task in self.tasks),
            queues=tuple(replace(q, guaranteed={}) for q in ranking.tree.queues.values()),
            budget=BUDGET,
        )
        plan = solve(problem)
        placed = {one.task: one.replicas for one in plan.placements}
        before = self.tasks
        self.tasks = [replace(task, placed=placed.get(task.id, ())) for task in before]
        came = {
            new.queue
            for old, new in zip(before, self.tasks, strict=True)
            if new.placed and not old.placed
        }
        queue = {task.id: task.queue for task in before}
        self.displacements += [
            (task, other) for task in plan.evicted for other in came if other != queue[task]
        ]
        return before != self.tasks

    def settle(self) -> None:
        for _ in range(A_WHILE):
            if not self.round():
                return
        pytest.fail("it never came to rest")

    def holds(self) -> Counter[str]:
        """GPUs by queue."""
        held = Counter[str]()
        for task in self.tasks:
            held[task.queue] += len(task.placed) * task.request.gpus
        return held

    def wants(self) -> Counter[str]:
        wanted = Counter[str]()
        for task in self.tasks:
            wanted[task.queue] += task.replicas * task.request.gpus
        return wanted


def cluster(nodes: int, gpus: int) -> tuple[Node, ...]:
    return tuple(
        Node(id=f"n{n}", devices=tuple(Device(id=f"n{n}-{g}") for g in range(gpus)))
        for n in range(nodes)
    )


def singles(queue: str, count: int, *, priority: int = 0) -> list[Task]:
    return [
        Task(id=f"{queue}-{n:02}", queue=queue, priority=priority, request=Request(gpus=1))
        for n in range(count)
    ]


def running(tasks: Sequence[Task], nodes: Sequence[Node]) -> list[Task]:
    """One after the other on the devices in order."""
    free = [Slot(node=node.id, devices=(device.id,)) for node in nodes for device in node.devices]
    return [replace(task, placed=(slot,)) for task, slot in zip(tasks, free, strict=False)] + list(
        tasks[len(free) :]
    )


def test_a_borrower_gives_back_what_another_queue_is_guaranteed() -> None:
    nodes = cluster(2, 4)
    queues = [Queue(id="a", guaranteed={"gpu_milli": 6000}), Queue(id="b")]
    world = World(nodes, queues, [*singles("a", 8), *running(singles("b", 8), nodes)])
    world.settle()
    assert world.holds() == {"a": 7, "b": 1}  # the two that are left over are shared


def test_a_priority_counts_in_its_queue_and_takes_nothing_from_another() -> None:
    nodes = cluster(1, 4)
    queues = [Queue(id="a"), Queue(id="b")]
    meek = running(singles("b", 2), nodes)
    world = World(nodes, queues, [*meek, *singles("a", 4, priority=1_000_000)])
    world.settle()
    assert world.holds() == {"a": 2, "b": 2}
    urgent = Task(id="urgent", queue="a", priority=2_000, request=Request(gpus=1))
    lazy = [replace(t, priority=0) if t.queue == "a" else t for t in world.tasks]
    world = World(nodes, queues, [*lazy, urgent])
    world.settle()
    assert world.holds() == {"a": 2, "b": 2}
    assert next(t for t in world.tasks if t.id == "urgent").placed


def test_who_has_used_less_lately_comes_first_where_room_becomes_free() -> None:
    nodes = cluster(1, 4)
    queues = [Queue(id="idler"), Queue(id="worker")]
    waiting = [*singles("idler", 4), *singles("worker", 4)]
    world = World(nodes, queues, waiting, usage={"idler": 1e6})
    world.settle()
    assert world.holds()["worker"] > world.holds()["idler"]
    # And yet it takes nothing from who runs within its share of now.
    both = running(singles("idler", 2), nodes)
    world = World(nodes, queues, [*both, *singles("worker", 4)], usage={"idler": 1e6})
    world.settle()
    assert world.holds() == {"idler": 2, "worker": 2}


def test_a_limit_is_kept_while_devices_stay_idle() -> None:
    nodes = cluster(1, 4)
    world = World(nodes, [Queue(id="a", limit={"gpu_milli": 3000})], singles("a", 4))
    world.settle()
    assert world.holds() == {"a": 3}


@st.composite
def sharing(draw: st.DrawFn) -> World:
    """Some queues, some in others; tasks of one GPU, some of them running anywhere."""
    nodes = cluster(draw(st.integers(1, 2)), 4)
    queues: list[Queue] = []
    for number in range(draw(st.integers(2, 4))):
        above = [None, *(queue.id for queue in queues[:1])]
        guaranteed = draw(st.integers(0, 3)) * 1000
        queues.append(
            Queue(
                id=f"q{number}",
                parent=draw(st.sampled_from(above)),
                weight=draw(st.integers(1, 3)),
                guaranteed={"gpu_milli": guaranteed} if guaranteed else {},
            )
        )
    tasks: list[Task] = []
    for queue in queues:
        tasks += [
            replace(task, priority=draw(st.integers(0, 2)))
            for task in singles(queue.id, draw(st.integers(0, 6)))
        ]
    order = draw(st.permutations(tasks))
    some = draw(st.integers(0, len(tasks)))
    return World(nodes, queues, [*running(order[:some], nodes), *order[some:]])


@settings(max_examples=25, deadline=None)
@given(sharing())
def test_each_queue_gets_its_entitlement_and_nothing_stays_idle(world: World) -> None:
    world.settle()
    entitled = world.rank().shares.now
    held, wanted = world.holds(), world.wants()
    for queue, share in entitled.items():
        assert held[queue] >= min(wanted[queue], share.own.get("gpu_milli", 0) // 1000)
    devices = sum(len(node.devices) for node in world.nodes)
    assert sum(held.values()) == min(devices, sum(wanted.values()))


@st.composite
def crowded(draw: st.DrawFn) -> World:
    """Gangs and replicas of several sizes that can't all run, some of them running."""
    nodes = cluster(2, 4)
    queues = [
        Queue(id=f"q{n}", weight=draw(st.integers(1, 3)), guaranteed={"gpu_milli": 1000 * g})
        for n, g in enumerate(draw(st.lists(st.integers(0, 4), min_size=2, max_size=3)))
    ]
    tasks = [
        Task(
            id=f"t{n:02}",
            queue=draw(st.sampled_from(queues)).id,
            priority=draw(st.integers(0, 2)),
            replicas=draw(st.sampled_from([1, 1, 2])),
            request=Request(gpus=draw(st.sampled_from([1, 1, 2, 3, 4]))),
            preemptible=draw(st.sampled_from([True, True, True, False])),
        )
        for n in range(draw(st.integers(3, 9)))
    ]
    world = World(nodes, queues, tasks[: draw(st.integers(1, 5))])
    world.round()  # some run already, in an order of their own
    late = [task for task in tasks if task.id not in {known.id for known in world.tasks}]
    usage = {queue.id: draw(st.floats(0, 1e6)) for queue in queues}
    return World(nodes, queues, [*world.tasks, *late], usage=usage)


@settings(max_examples=25, deadline=None)
@given(crowded())
def test_it_comes_to_rest_and_no_two_queues_displace_each_other(world: World) -> None:
    queue = {task.id: task.queue for task in world.tasks}
    world.settle()
    takes = {(queue[loser], winner) for loser, winner in world.displacements}
    assert len(world.displacements) <= 3 * len(world.tasks)
    lost = Counter(loser for loser, _ in world.displacements)
    assert not lost or max(lost.values()) <= 2, takes


@settings(max_examples=12, deadline=None)
@given(crowded(), st.lists(st.floats(0, 1e6), min_size=3, max_size=3))
def test_whatever_history_says_next_who_runs_within_its_share_goes_on(
    world: World, history: list[float]
) -> None:
    world.settle()
    count = len(world.displacements)
    for value in history:
        world.usage = {"q0": value, "q1": 1e6 - value}
        world.settle()
    assert len(world.displacements) == count, "the tasks are the same, so their shares of now are"
