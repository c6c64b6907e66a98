"""Each reason is true, each fix works when it is carried out."""

from dataclasses import replace

import pytest

from solver.plan import Fix, FixKind, Plan, ReasonCode, Unplaced
from solver.problem import Budget, Device, Node, Problem, Queue, Request, Slot, Task
from solver.solve import solve
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


FULL = (held("a", "n", 0), held("b", "n", 1))

SCENARIOS = {
    "all devices are taken": ((node("n"),), (*FULL, Task(id="t", request=WHOLE)), {"no_capacity"}),
    "no node has the model": (
        (node("n"),),
        (Task(id="t", request=WHOLE, gpu_models=("T4",)),),
        {"no_matching_model", "no_capacity"},
    ),
    "no node has the label": (
        (node("n"),),
        (Task(id="t", node_selector={"zone": ("x",)}),),
        {"no_matching_node"},
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
    tasks = (held("a", "n", 0), Task(id="t", request=Request(gpus=2, cpu_milli=9000)))
    entry = waiting(plan_for((node("n"),), *tasks), "t")
    assert entry.reasons[0].text == (
        "each replica needs 9000 cpu_milli (the best node has 8000 free)"
        " and 2 whole devices on one node (the best node has 1 free)"
    )
    assert entry.reasons[0].nodes == 1


def carried_out(problem: Problem, plan: Plan, waiting_task: str, fix: Fix) -> Problem:
    """The plan's final state with the fix applied and nothing else to decide."""
    final = {placement.task: placement.replicas for placement in plan.placements}
    tasks = []
    for task in problem.tasks:
        if task.id == waiting_task:
            tasks.append(
                shrunk(replace(task, placed=()), fix) if fix.kind is FixKind.SHRINK else task
            )
        elif task.id in final and task.id != fix.task:
            tasks.append(replace(task, placed=final[task.id]))
    nodes = problem.nodes
    if fix.kind is FixKind.ADD_NODE:
        like = next(node for node in nodes if node.id == fix.node)
        devices = tuple(replace(device, healthy=True) for device in like.devices)
        nodes = (*nodes, replace(like, id="one more", schedulable=True, devices=devices))
    known = {task.id for task in tasks}
    tasks = [
        replace(
            task,
            placed=() if task.id == waiting_task else task.placed,
            separate_from=tuple(other for other in task.separate_from if other in known),
        )
        for task in tasks
    ]
    budget = Budget(deterministic=True, max_moves=0)
    return replace(problem, nodes=nodes, tasks=tuple(tasks), budget=budget)


def shrunk(task: Task, fix: Fix) -> Task:
    assert fix.dimension is not None
    assert fix.quantity is not None
    if fix.dimension == "min_replicas":
        return replace(task, replicas=fix.quantity, min_replicas=fix.quantity)
    return replace(task, request=replace(task.request, **{fix.dimension: fix.quantity}))


def test_every_fix_works_when_it_is_carried_out() -> None:
    kinds = set()
    for seed in range(16):
        problem = replace(random_problem(seed, nodes=3, devices=4, tasks=12), budget=BUDGET)
        plan = solve(problem)
        for entry in plan.unplaced:
            assert entry.reasons
            for fix in entry.fixes:
                after = solve(carried_out(problem, plan, entry.task, fix))
                assert entry.task in {placement.task for placement in after.placements}, (seed, fix)
                kinds.add(fix.kind)
    assert kinds == set(FixKind)
