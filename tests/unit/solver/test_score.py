"""The objective terms, counted by hand."""

import pytest

from solver.links import pair_cost
from solver.problem import Device, Node, Problem, Request, Slot, Task
from solver.score import score_slots

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
