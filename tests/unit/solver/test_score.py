"""The objective terms, counted by hand."""

import pytest

from solver.links import pair_cost
from solver.problem import Device, Node, Problem, Request, Slot, Task
from solver.score import repair, score_slots

NODES = (
    Node(
        id="a",
        cpu_milli=4000,
        domains={"rack": "r1"},
        idle_watts=100,
        devices=tuple(
            Device(
                id=f"g{i}", numa=i // 2, links={"g1": "nvlink"} if i == 0 else {}, active_watts=10
            )
            for i in range(4)
        ),
    ),
    Node(id="b", cpu_milli=4000, domains={"rack": "r1"}, idle_watts=50),
    Node(id="c", cpu_milli=4000),
)


def at(node: str, *devices: int) -> Slot:
    return Slot(node=node, devices=tuple(f"g{device}" for device in devices))


TASKS = (
    Task(id="pair", priority=5, request=Request(gpus=2)),
    Task(id="share", request=Request(gpus=1, gpu_milli=300), placed=(at("a", 3),), move_cost=7),
    Task(id="gang", replicas=3, min_replicas=1, request=Request(cpu_milli=1500)),
    Task(id="gone", placed=(at("c"),), evict_cost=4),
)


def value_of(term: str, after: dict[str, tuple[Slot, ...]]) -> list[int]:
    problem = Problem(version=1, nodes=NODES, tasks=TASKS, objective=(term,))
    return [entry.value for entry in score_slots(problem, after)]


GONE_STAYS = {"gone": (at("c"),), "share": (at("a", 3),)}


@pytest.mark.parametrize(
    ("term", "after", "value"),
    [
        ("placed", {"pair": (at("a", 0, 1),), "share": (at("a", 3),)}, [2000, 300]),
        ("placed", {"gang": (at("b"), at("b"))}, [0, 2]),
        ("disruption", GONE_STAYS, [0]),
        ("disruption", {**GONE_STAYS, "share": (at("a", 2),)}, [7]),
        ("disruption", {"share": (at("a", 3),)}, [4]),
        ("fragmentation", {"share": (at("a", 3),)}, [700]),
        ("fragmentation", {"pair": (at("a", 0, 1),)}, [0]),
        ("locality", {"pair": (at("a", 0, 1),)}, [0]),
        ("locality", {"pair": (at("a", 2, 3),)}, [1]),
        ("locality", {"pair": (at("a", 1, 2),)}, [2]),
        ("locality", {"gang": (at("a"), at("b"))}, [1]),
        ("locality", {"gang": (at("a"), at("b"), at("c"))}, [3]),
        ("balance", {}, [0]),
        ("balance", {"share": (at("a", 3),)}, [25]),
        ("balance", {"gang": (at("b"),)}, [40]),
        ("pack", {"gang": (at("a"), at("b"))}, [2]),
        ("power", {"share": (at("a", 3),), "gang": (at("b"),)}, [160]),
    ],
)
def test_each_term_is_what_its_formula_says(
    term: str, after: dict[str, tuple[Slot, ...]], value: list[int]
) -> None:
    assert value_of(term, after) == value


@pytest.mark.parametrize(
    ("kind", "numa", "cost"),
    [
        ("nvlink", (0, 1), 0),
        ("pix", (0, 1), 1),
        (None, (0, 0), 1),
        ("sys", (0, 1), 2),
        ("sys", (0, 0), 1),
        (None, (None, None), 2),
    ],
)
def test_a_link_counts_from_either_end(
    kind: str | None, numa: tuple[int | None, int | None], cost: int
) -> None:
    first = Device(id="x", numa=numa[0], links={"y": kind} if kind else {})
    second = Device(id="y", numa=numa[1])
    assert pair_cost(first, second) == pair_cost(second, first) == cost


def test_a_broken_start_comes_before_what_the_problem_names_and_an_unbroken_one_does_not() -> None:
    crowd = tuple(Task(id=i, request=Request(cpu_milli=3000), placed=(at("b"),)) for i in "xy")
    problem = Problem(version=1, nodes=NODES, tasks=crowd, objective=("placed",))
    stay = {"x": (at("b"),), "y": (at("b"),)}
    assert [(e.name, e.value) for e in score_slots(problem, stay)] == [("repair", 1), ("placed", 2)]
    mended = {**stay, "y": (at("c"),)}
    assert [e.value for e in score_slots(problem, mended)] == [0, 2]
    alone = Problem(version=1, nodes=NODES, tasks=crowd[:1], objective=("placed",))
    assert [e.name for e in score_slots(alone, {"x": (at("b"),)})] == ["placed"]


@pytest.mark.parametrize(
    ("tasks", "after", "broken"),
    [
        ((Task(id="t", request=Request(cpu_milli=4001)),), {"t": (at("b"),)}, 1),
        ((Task(id="t", request=Request(cpu_milli=4001, disk_mib=1)),), {"t": (at("b"),)}, 2),
        (
            (Task(id="t", replicas=2, request=Request(gpus=1, gpu_milli=600)),),
            {"t": (at("a", 0),) * 2},
            1,
        ),
        ((Task(id="t", request=Request(gpus=2, gpu_memory_mib=1)),), {"t": (at("a", 0, 1),)}, 2),
        ((Task(id="t", replicas=3),), {"t": (at("b"),)}, 1),
        ((Task(id="t", replicas=3, min_replicas=1),), {"t": (at("b"),)}, 0),
        ((Task(id="t", separate_from=("u",)), Task(id="u")), {"t": (at("b"),), "u": (at("b"),)}, 1),
        ((Task(id="t", separate_from=("u",)), Task(id="u")), {"t": (at("b"),), "u": (at("c"),)}, 0),
    ],
)
def test_repair_counts_broken_places(
    tasks: tuple[Task, ...], after: dict[str, tuple[Slot, ...]], broken: int
) -> None:
    problem = Problem(version=1, nodes=NODES, tasks=tasks)
    assert repair(problem, after) == broken


def test_what_runs_on_a_lost_device_or_a_cordoned_node_may_stay() -> None:
    lost = Node(id="n", schedulable=False, devices=(Device(id="g0", healthy=False),))
    problem = Problem(version=1, nodes=(lost,), tasks=(Task(id="t", request=Request(gpus=1)),))
    assert repair(problem, {"t": (at("n", 0),)}) == 0
