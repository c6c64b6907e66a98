"""Each reason is true, each fix works when it is carried out."""

from dataclasses import replace

import pytest

from solver.deadline import Deadline
from solver.explain import explain
from solver.pipeline import solve
from solver.plan import Fix, FixKind, Plan, ReasonCode, Unplaced
from solver.problem import Budget, Device, Node, Problem, Queue, Request, Slot, Task
from solver.score import slots_after, slots_before
from tests import lifting
from tests.problems import random_problem

WHOLE = Request(gpus=1)
BUDGET = Budget(deterministic=True)


def node(name: str, gpus: int = 2, **fields: object) -> Node:
    devices = tuple(Device(id=f"g{i}", model="A100", memory_mib=1000) for i in range(gpus))
    return Node(**{"id": name, "cpu_milli": 8000, "devices": devices, **fields})


def held(task: str, node_id: str, *devices: int, **fields: object) -> Task:
    slot = Slot(node=node_id, devices=tuple(f"g{i}" for i in devices))
    request = Request(gpus=len(devices))
    return Task(**{"id": task, "request": request, "placed": (slot,), **fields})


def plan_for(nodes: tuple[Node, ...], *tasks: Task, **fields: object) -> Plan:
    return solve(
        Problem(**{"version": 1, "nodes": nodes, "tasks": tasks, "budget": BUDGET, **fields})
    )


def waiting(plan: Plan, task: str) -> Unplaced:
    return next(entry for entry in plan.unplaced if entry.task == task)


def t4_node(name: str) -> Node:
    return node(name, devices=(Device(id="g0", model="T4"),))


def lost_device(name: str) -> Node:
    lost = Device(id="g1", model="A100", healthy=False)
    return node(name, devices=(Device(id="g0", model="A100"), lost))


FULL = (held("a", "n", 0), held("b", "n", 1))

FIXED = tuple(replace(task, preemptible=False) for task in FULL)

SCENARIOS = {
    "all devices are taken": ((node("n"),), (*FULL, Task(id="t", request=WHOLE)), {"no_capacity"}),
    "no node has the model": (
        (node("n"),),
        (Task(id="t", request=WHOLE, gpu_models=("T4",)),),
        {"no_matching_model"},
    ),
    "the nodes with the model are full, others have room": (
        (node("n"), t4_node("m")),
        (*FIXED, Task(id="t", request=WHOLE, gpu_models=("A100",))),
        {"no_capacity", "no_matching_model"},
    ),
    "the nodes with the model are full, and so are the others": (
        (node("n"), node("m", gpus=0)),
        (*FULL, Task(id="t", request=WHOLE, gpu_models=("A100",))),
        {"no_capacity"},
    ),
    "no node has the model, nor room": (
        (node("n"),),
        (*FULL, Task(id="t", request=WHOLE, gpu_models=("T4",))),
        {"no_matching_model", "no_capacity"},
    ),
    "no node has the label": (
        (node("n"),),
        (Task(id="t", node_selector={"zone": ("x",)}),),
        {"no_matching_node"},
    ),
    "a cordoned node is full as well": (
        (node("n"), node("m", schedulable=False)),
        (*FULL, held("c", "m", 0), held("d", "m", 1), Task(id="t", request=WHOLE)),
        {"no_capacity"},
    ),
    "the devices that are free are unhealthy": (
        (lost_device("n"),),
        (held("a", "n", 0), Task(id="t", request=WHOLE)),
        {"no_capacity", "unschedulable_nodes"},
    ),
    "the only node is cordoned": (
        (node("n", schedulable=False),),
        (Task(id="t"),),
        {"unschedulable_nodes"},
    ),
    "the gang is larger than what is free": (
        (node("n"),),
        (Task(id="t", request=WHOLE, replicas=3),),
        {"gang_does_not_fit"},
    ),
    "others hold a part of what the gang needs": (
        (node("n", gpus=4),),
        (*FULL, Task(id="t", request=WHOLE, replicas=3)),
        {"gang_does_not_fit", "no_capacity"},
    ),
    "the gang could lie over the racks unevenly": (
        (node("n", domains={"rack": "1"}), node("m", gpus=4, domains={"rack": "2"})),
        (*FIXED, Task(id="t", request=WHOLE, replicas=4, spread_over="rack")),
        {"topology", "no_capacity"},
    ),
    "the gang fits, but not in one rack": (
        (node("n", domains={"rack": "1"}), node("m", domains={"rack": "2"})),
        (Task(id="t", request=WHOLE, replicas=4, pack_within="rack"),),
        {"topology"},
    ),
    "the node runs a task it is separate from": (
        (node("n"),),
        (held("a", "n", 0), Task(id="t", request=WHOLE, separate_from=("a",))),
        {"topology"},
    ),
    "more urgent tasks hold the devices": (
        (node("n"),),
        (*(replace(t, priority=9) for t in FULL), Task(id="t", request=WHOLE)),
        {"no_capacity", "lower_priority"},
    ),
    "less urgent tasks may not be touched": (
        (node("n"),),
        (*FULL, Task(id="t", request=WHOLE, priority=9)),
        {"no_capacity", "moves_exhausted"},
    ),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_all_true_reasons_are_given_and_no_others(name: str) -> None:
    nodes, tasks, codes = SCENARIOS[name]
    budget = replace(BUDGET, max_moves=0 if "moves_exhausted" in codes else None)
    plan = plan_for(nodes, *tasks, budget=budget)
    assert {reason.code for reason in waiting(plan, "t").reasons} == codes
    assert plan.status == "optimal"


def test_a_queue_at_its_limit_is_named_with_its_numbers() -> None:
    queues = (Queue(id="top", limit={"gpu_milli": 1500}), Queue(id="q", parent="top"))
    tasks = (held("a", "n", 0, queue="q"), Task(id="t", queue="q", request=WHOLE))
    (reason,) = waiting(plan_for((node("n"),), *tasks, queues=queues), "t").reasons
    assert reason.code is ReasonCode.QUEUE_LIMIT
    assert reason.text == "needs 1000 gpu_milli in queue top, which holds 1000 of its limit 1500"


def test_a_shortage_is_told_in_numbers() -> None:
    nodes = (node("n"), node("m", gpus=1, cpu_milli=64000))
    tasks = (held("a", "n", 0), Task(id="t", request=Request(gpus=2, cpu_milli=9000)))
    (reason,) = waiting(plan_for(nodes, *tasks), "t").reasons
    assert reason.text == (
        "2 of 2 nodes lack room for what the task needs: "
        "2 whole devices (2 nodes, the best has 1 free); "
        "9000 cpu_milli (1 node, the best has 8000 free)"
    )
    assert reason.nodes == 2


def fixes_of(plan: Plan, kind: FixKind) -> list[Fix]:
    return [fix for fix in waiting(plan, "t").fixes if fix.kind is kind]


def test_a_set_of_ends_is_offered_where_no_single_end_is_enough() -> None:
    tasks = (*FULL, Task(id="t", request=Request(gpus=2)))
    (fix,) = fixes_of(plan_for((node("n"),), *tasks), FixKind.FREE_SET)
    assert fix.tasks == ("a", "b")
    assert fix.cost == 2000
    assert fix.text == "it fits once tasks a and b have ended"


def test_the_cheapest_of_several_ends_comes_first() -> None:
    half = held("half", "n", 0, request=Request(gpus=1, gpu_milli=500))
    tasks = (half, held("whole", "n", 1), Task(id="t", request=WHOLE))
    found = fixes_of(plan_for((node("n"),), *tasks), FixKind.FREE)
    assert [(fix.task, fix.cost) for fix in found] == [("half", 500), ("whole", 1000)]


def test_a_move_names_the_task_and_where_it_would_go() -> None:
    nodes = (node("n"), node("m", gpus=1))
    tasks = (held("a", "n", 0), Task(id="t", request=Request(gpus=2)))
    plan = plan_for(nodes, *tasks, budget=replace(BUDGET, max_moves=0))
    (fix,) = fixes_of(plan, FixKind.MOVE)
    assert (fix.tasks, fix.nodes, fix.cost) == (("a",), ("m",), 1000)
    assert fix.text == "it fits once task a moves to m"
    codes = {reason.code for reason in waiting(plan, "t").reasons}
    assert ReasonCode.MOVES_EXHAUSTED in codes


def test_two_moves_are_found_where_one_is_not_enough() -> None:
    nodes = (node("n"), node("m", gpus=1), node("o", gpus=1))
    plan = plan_for(
        nodes, *FULL, Task(id="t", request=Request(gpus=2)), budget=replace(BUDGET, max_moves=1)
    )
    (fix,) = fixes_of(plan, FixKind.MOVE)
    assert fix.tasks == ("a", "b")
    assert set(fix.nodes) == {"m", "o"}
    assert {r.code for r in waiting(plan, "t").reasons} >= {ReasonCode.MOVES_EXHAUSTED}


def test_a_share_that_its_queue_is_owed_could_have_been_taken_back() -> None:
    queues = (Queue(id="mine", guaranteed={"gpus": 1}), Queue(id="theirs"))
    running = (held("a", "n", 0, queue="theirs"), held("b", "n", 1, queue="theirs"))
    task = Task(id="t", request=WHOLE, queue="mine")
    budget = replace(BUDGET, max_moves=0)
    plan = plan_for((node("n"),), *running, task, queues=queues, budget=budget)
    codes = {reason.code for reason in waiting(plan, "t").reasons}
    assert codes == {ReasonCode.NO_CAPACITY, ReasonCode.MOVES_EXHAUSTED}


def test_tasks_of_the_same_priority_would_not_have_given_way() -> None:
    plan = plan_for(
        (node("n"),), *FULL, Task(id="t", request=WHOLE), budget=replace(BUDGET, max_moves=0)
    )
    codes = {reason.code for reason in waiting(plan, "t").reasons}
    assert codes == {ReasonCode.NO_CAPACITY}


@pytest.mark.parametrize(
    ("dimension", "request_fields", "largest"),
    [
        ("cpu_milli", {"cpu_milli": 9000}, 8000),
        ("gpus", {"gpus": 7}, 2),
        ("gpu_memory_mib", {"gpus": 2, "gpu_memory_mib": 4096}, 1000),
    ],
)
def test_the_largest_request_that_fits_is_exact(
    dimension: str, request_fields: dict[str, int], largest: int
) -> None:
    task = Task(id="t", request=Request(**request_fields))
    fix, *_ = fixes_of(plan_for((node("n"),), task), FixKind.SHRINK)
    assert (fix.dimension, fix.quantity, fix.task) == (dimension, largest, "t")


def test_another_model_is_named_and_costs_nothing() -> None:
    nodes = (node("n"), t4_node("m"))
    plan = plan_for(nodes, *FIXED, Task(id="t", request=WHOLE, gpu_models=("A100",)))
    fix = waiting(plan, "t").fixes[0]
    assert (fix.kind, fix.dimension, fix.value) == (FixKind.RELAX, "gpu_models", "T4")
    assert (fix.text, fix.cost) == ("it fits if it accepts model T4 too", 0)


def test_a_limit_is_named_with_what_it_would_have_to_be() -> None:
    queues = (Queue(id="q", limit={"gpus": 1}),)
    tasks = (held("a", "n", 0, queue="q"), Task(id="t", queue="q", request=WHOLE))
    (fix,) = fixes_of(plan_for((node("n"),), *tasks, queues=queues), FixKind.RAISE_LIMIT)
    assert (fix.queue, fix.dimension, fix.quantity) == ("q", "gpus", 2)


def test_a_cordoned_node_with_room_is_named() -> None:
    nodes = (node("n"), node("m", schedulable=False))
    (fix,) = fixes_of(plan_for(nodes, *FULL, Task(id="t", request=WHOLE)), FixKind.UNCORDON)
    assert fix.node == "m"


def test_the_smallest_node_that_would_do_is_added() -> None:
    nodes = (node("large", gpus=8, schedulable=False), node("n"), node("none", gpus=0))
    (fix,) = fixes_of(plan_for(nodes, *FULL, Task(id="t", request=WHOLE)), FixKind.ADD_NODE)
    assert (fix.node, fix.cost) == ("n", 2000)


class Late(Deadline):
    """One that is over from a certain question on."""

    def __init__(self, questions: int) -> None:
        super().__init__(BUDGET, None)
        self.questions = questions

    def is_over(self, *, allowance_seconds: float) -> bool:
        self.questions -= 1
        return self.questions < 0


def test_when_time_is_up_fixes_are_cut_and_reasons_are_not() -> None:
    waits = tuple(Task(id=f"t{i}", priority=-i, request=WHOLE) for i in range(4))
    problem = Problem(version=1, nodes=(node("n"),), tasks=(*FULL, *waits))
    answer = slots_before(problem)
    entries = explain(problem, answer, Late(6))
    assert [bool(entry.fixes) for entry in entries] == [True, True, False, False]
    entries = explain(problem, answer, Late(0))
    texts = [[reason.text for reason in entry.reasons] for entry in entries]
    assert (
        texts
        == [
            [
                "1 of 1 nodes lack room for what the task needs: "
                "1 gpu_milli of one device (1 node, the best has 0 free)"
            ]
        ]
        * 4
    )
    assert not any(entry.fixes for entry in entries)


def test_tasks_that_differ_only_in_their_names_are_told_the_same() -> None:
    tasks = (*FULL, *(Task(id=f"t{i}", request=Request(gpus=2)) for i in range(3)))
    entries = plan_for((node("n"),), *tasks).unplaced
    assert len({entry.reasons for entry in entries}) == 1
    for entry in entries:
        shrunk = [fix for fix in entry.fixes if fix.kind is FixKind.SHRINK]
        assert {fix.task for fix in shrunk} <= {entry.task}


def test_every_fix_works_when_the_problem_is_solved_again() -> None:
    kinds = set()
    for seed in range(12):
        problem = replace(random_problem(seed, nodes=3, devices=4, tasks=12), budget=BUDGET)
        plan = solve(problem)
        answer = slots_after(plan.placements)
        for entry in plan.unplaced:
            for fix in entry.fixes:
                if fix.kind is FixKind.MOVE:
                    continue  # carried out one by one, not solved for
                after = solve(lifting.carried_out(problem, answer, entry.task, fix))
                assert entry.task in {placement.task for placement in after.placements}, (seed, fix)
                kinds.add(fix.kind)
    assert kinds >= {FixKind.FREE, FixKind.FREE_SET, FixKind.SHRINK, FixKind.ADD_NODE}


def test_without_nodes_a_task_is_told_just_that() -> None:
    task = Task(id="t", request=Request(gpus=1))
    plan = solve(Problem(version=1, nodes=(), tasks=(task,), budget=Budget(deterministic=True)))
    [reason] = plan.unplaced[0].reasons
    assert (reason.code.value, reason.text) == ("no_capacity", "there are no nodes")
