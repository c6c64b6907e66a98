"""The specification sees each breach, planted alone, and lets a broken start be."""

from dataclasses import replace

import pytest

from solver.check import slot_violations, violations
from solver.plan import ObjectiveTerm, Placement, Plan, Stats, Status, Unplaced
from solver.problem import Budget, Device, Node, Problem, Queue, Request, Slot, Task
from solver.score import score_slots

STATS = Stats(seconds=0, quick_seconds=0, workers=1, digest="sha256:0")
NODES = tuple(
    Node(
        id=f"n{i}",
        cpu_milli=8000,
        memory_mib=8000,
        labels={"zone": "ab"[i % 2]},
        domains={"rack": f"r{i // 2}"},
        devices=tuple(Device(id=f"g{j}", model="A100", memory_mib=1000) for j in range(2)),
    )
    for i in range(4)
)
SHARE = Request(gpus=1, gpu_milli=600)
CPU = Request(cpu_milli=5000)


def at(node: int, *devices: int) -> Slot:
    return Slot(node=f"n{node}", devices=tuple(f"g{device}" for device in devices))


def rules(
    tasks: tuple[Task, ...], after: dict[str, tuple[Slot, ...]], **fields: object
) -> set[str]:
    """The numbers of the rules that these slots break."""
    problem = Problem(**{"version": 1, "nodes": NODES, "tasks": tasks, **fields})
    return {violation.rule for violation in slot_violations(problem, after)}


def node_with(**fields: object) -> tuple[Node, ...]:
    return (replace(NODES[0], **fields), *NODES[1:])


def device_with(**fields: object) -> tuple[Node, ...]:
    return node_with(devices=(replace(NODES[0].devices[0], **fields), NODES[0].devices[1]))


@pytest.mark.parametrize(
    ("task", "nodes"),
    [
        (Task(id="t"), node_with(schedulable=False)),
        (Task(id="t", node_selector={"zone": ("b",)}), NODES),
        (Task(id="t", node_selector={"none": ("b",)}), NODES),
        (Task(id="t", pack_within="block"), NODES),
        (Task(id="t", spread_over="block"), NODES),
        (Task(id="t", request=SHARE, gpu_models=("T4",)), NODES),
        (Task(id="t", request=SHARE), device_with(healthy=False)),
        (Task(id="t", request=replace(SHARE, gpu_memory_mib=1001)), NODES),
    ],
)
def test_nothing_new_goes_where_it_is_not_allowed(task: Task, nodes: tuple[Node, ...]) -> None:
    slot = at(0, 0) if task.request.gpus else at(0)
    assert "C2" in rules((task,), {"t": (slot,)}, nodes=nodes)
    stays = replace(task, placed=(slot,))
    assert "C2" not in rules((stays,), {"t": (slot,)}, nodes=nodes)


def test_shares_of_a_device_sum_to_one_device() -> None:
    tasks = (Task(id="a", request=SHARE), Task(id="b", request=SHARE))
    assert rules(tasks, {"a": (at(0, 0),), "b": (at(0, 0),)}) == {"C3"}
    assert rules(tasks, {"a": (at(0, 0),), "b": (at(0, 1),)}) == set()


def test_device_memory_is_a_capacity() -> None:
    need = Request(gpus=1, gpu_milli=100, gpu_memory_mib=600)
    tasks = (Task(id="a", request=need), Task(id="b", request=need))
    assert rules(tasks, {"a": (at(0, 0),), "b": (at(0, 0),)}) == {"C4"}


@pytest.mark.parametrize("dimension", ["cpu_milli", "memory_mib", "disk_mib", "network_mbps"])
def test_a_node_holds_no_more_than_it_has(dimension: str) -> None:
    request = Request(**{dimension: 8001})
    assert rules((Task(id="t", request=request),), {"t": (at(0),)}) == {"C5"}


def test_an_overfull_device_keeps_what_it_has_and_takes_no_more() -> None:
    old = tuple(Task(id=i, request=SHARE, placed=(at(0, 0),)) for i in "ab")
    new = Task(id="c", request=replace(SHARE, gpu_milli=100))
    kept = {"a": (at(0, 0),), "b": (at(0, 0),)}
    assert rules((*old, new), kept) == set()
    assert rules((*old, new), {**kept, "c": (at(0, 0),)}) == {"C3"}


def test_an_overfull_node_keeps_what_it_has_and_takes_no_more() -> None:
    old = tuple(Task(id=i, request=CPU, placed=(at(0),)) for i in "ab")
    new = Task(id="c", request=Request(cpu_milli=1))
    kept = {"a": (at(0),), "b": (at(0),)}
    assert rules((*old, new), kept) == set()
    assert rules((*old, new), {**kept, "c": (at(0),)}) == {"C5"}
    assert rules((*old, Task(id="d")), {**kept, "d": (at(0),)}) == set()


def test_a_gang_is_whole_or_absent() -> None:
    gang = Task(id="t", replicas=3, min_replicas=2)
    assert rules((gang,), {"t": (at(0),)}) == {"C6"}
    assert rules((gang,), {"t": (at(0), at(0))}) == set()
    broken = replace(gang, placed=(at(0),))
    assert rules((broken,), {"t": (at(0),)}) == set()


def test_a_packed_gang_stays_in_one_domain() -> None:
    gang = Task(id="t", replicas=2, pack_within="rack")
    assert rules((gang,), {"t": (at(0), at(2))}) == {"C7"}
    assert rules((gang,), {"t": (at(0), at(1))}) == set()
    assert rules((replace(gang, pack_within="node"),), {"t": (at(0), at(1))}) == {"C7"}


def test_a_spread_gang_is_even_where_the_nodes_are_large_enough() -> None:
    gang = Task(id="t", replicas=4, spread_over="rack", request=Request(cpu_milli=2000))
    assert rules((gang,), {"t": (at(0), at(0), at(1), at(2))}) == {"C8"}
    assert rules((gang,), {"t": (at(0), at(1), at(2), at(2))}) == set()
    small = tuple(
        replace(n, cpu_milli=2000 if i == 2 else 0) if i > 1 else n for i, n in enumerate(NODES)
    )
    assert rules((gang,), {"t": (at(0), at(0), at(1), at(2))}, nodes=small) == set()


def test_a_spread_within_a_packed_domain_looks_at_that_domain_only() -> None:
    gang = Task(id="t", replicas=2, spread_over="node", pack_within="rack")
    assert rules((gang,), {"t": (at(0), at(1))}) == set()
    assert rules((gang,), {"t": (at(0), at(0))}) == {"C8"}


def test_separation_holds_whichever_task_asks_for_it() -> None:
    tasks = (Task(id="a", separate_from=("b",)), Task(id="b"))
    assert rules(tasks, {"a": (at(0),), "b": (at(0),)}) == {"C9"}
    assert rules(tasks[::-1], {"a": (at(0),), "b": (at(0),)}) == {"C9"}
    together = tuple(replace(task, placed=(at(0),)) for task in tasks)
    assert rules(together, {"a": (at(0),), "b": (at(0),)}) == set()


def test_a_queue_limit_counts_the_queues_below() -> None:
    queues = (Queue(id="top", limit={"gpu_milli": 1000}), Queue(id="low", parent="top"))
    tasks = (Task(id="a", request=SHARE, queue="top"), Task(id="b", request=SHARE, queue="low"))
    after = {"a": (at(0, 0),), "b": (at(1, 0),)}
    assert rules(tasks, after, queues=queues) == {"C10"}
    running = tuple(replace(task, placed=after[task.id]) for task in tasks)
    assert rules(running, after, queues=queues) == set()


def test_an_unpreemptible_task_is_not_touched() -> None:
    task = Task(id="t", preemptible=False, placed=(at(0),))
    assert rules((task,), {"t": (at(1),)}) == {"C11"}
    assert rules((task,), {"t": (at(0),)}) == set()


def test_a_task_loses_only_to_a_higher_priority_in_its_place() -> None:
    victim = Task(id="v", request=CPU, placed=(at(0),))
    assert rules((victim,), {}) == {"C12"}
    urgent = Task(id="u", request=CPU, priority=1)
    assert rules((victim, urgent), {"u": (at(0),)}) == set()
    assert rules((victim, urgent), {"u": (at(1),)}) == {"C12"}
    equal = replace(urgent, priority=0)
    assert rules((victim, equal), {"u": (at(0),)}) == {"C12"}


def test_a_gang_shrinks_only_to_a_higher_priority_in_its_place() -> None:
    gang = Task(id="v", request=CPU, replicas=2, min_replicas=1, placed=(at(0), at(1)))
    assert rules((gang,), {"v": (at(0),)}) == {"C12"}
    urgent = Task(id="u", request=CPU, priority=1)
    assert rules((gang, urgent), {"v": (at(0),), "u": (at(1),)}) == set()


def test_a_guaranteed_share_is_reclaimed_from_borrowers_only() -> None:
    victim = Task(id="v", queue="rich", request=SHARE, placed=(at(0, 0),))
    claimer = Task(id="u", queue="poor", request=SHARE)
    poor = Queue(id="poor", guaranteed={"gpu_milli": 600})
    after = {"u": (at(0, 0),)}
    assert rules((victim, claimer), after, queues=(poor, Queue(id="rich"))) == set()
    also_due = Queue(id="rich", guaranteed={"gpu_milli": 600})
    assert rules((victim, claimer), after, queues=(poor, also_due)) == {"C12"}
    too_little = replace(poor, guaranteed={"gpu_milli": 599})
    assert rules((victim, claimer), after, queues=(too_little, Queue(id="rich"))) == {"C12"}


def test_moves_and_evictions_are_counted_together() -> None:
    movers = tuple(Task(id=i, placed=(at(0),)) for i in "ab")
    after = {"a": (at(1),), "b": (at(1),)}
    assert rules(movers, after, budget=Budget(max_moves=1)) == {"C13"}
    assert rules(movers, after, budget=Budget(max_moves=2)) == set()


def test_a_gang_that_only_grows_has_not_moved() -> None:
    gang = Task(id="t", replicas=2, min_replicas=1, placed=(at(0),))
    assert rules((gang,), {"t": (at(1), at(0))}, budget=Budget(max_moves=0)) == set()


PROBLEM = Problem(
    version=1,
    nodes=NODES,
    tasks=(Task(id="a", request=SHARE), Task(id="b", request=SHARE, placed=(at(1, 0),))),
)


def plan_of(**fields: object) -> Plan:
    """A true plan of PROBLEM (``a`` waits, ``b`` stays), with some fields made false."""
    after = {"b": (at(1, 0),)}
    terms = tuple(
        ObjectiveTerm(
            name=v.name,
            level=v.level,
            value=v.value,
            bound=1200 if v.name == "placed" else 0,
            gap=0,
        )
        for v in score_slots(PROBLEM, after)
    )
    true = Plan(
        version=1,
        status=Status.FEASIBLE,
        placements=(Placement(task="b", replicas=after["b"]),),
        unplaced=(Unplaced(task="a"),),
        objective=terms,
        stats=STATS,
    )
    return replace(true, **fields)


def test_a_true_plan_has_no_violation() -> None:
    assert violations(PROBLEM, plan_of()) == ()


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"moved": ("b",)}, "untrue_moved"),
        ({"evicted": ("a",)}, "untrue_evicted"),
        ({"unplaced": ()}, "untrue_unplaced"),
        ({"objective": ()}, "untrue_objective"),
        ({"objective": tuple(replace(t, bound=599) for t in plan_of().objective)}, "untrue_bound"),
    ],
)
def test_what_a_plan_says_of_itself_is_checked(fields: dict[str, object], code: str) -> None:
    assert code in {violation.code for violation in violations(PROBLEM, plan_of(**fields))}


@pytest.mark.parametrize(
    "placements",
    [
        (Placement(task="x", replicas=(at(0, 0),)),),
        (Placement(task="a", replicas=(at(0, 0),)), Placement(task="a", replicas=(at(0, 1),))),
        (Placement(task="a", replicas=()),),
        (Placement(task="a", replicas=(at(0, 0), at(0, 1))),),
        (Placement(task="a", replicas=(at(9, 0),)),),
        (Placement(task="a", replicas=(at(0, 7),)),),
        (Placement(task="a", replicas=(at(0),)),),
        (Placement(task="a", replicas=(at(0, 0, 0),)),),
    ],
)
def test_placements_that_cannot_exist_are_named(placements: tuple[Placement, ...]) -> None:
    found = violations(PROBLEM, plan_of(placements=placements))
    assert {violation.rule for violation in found} == {"C1"}
