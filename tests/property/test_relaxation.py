"""No placement at all beats the relaxation's bound, tried on whatever a start state may be."""

import random
from dataclasses import replace

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from solver.arrays import as_arrays
from solver.highs.relaxation import Relaxation
from solver.problem import Problem, Slot, Task
from tests.oracle import best_score, size_of
from tests.problems import tiny_problem

SEEDS = st.integers(min_value=0, max_value=10**9)


def troubled(seed: int) -> Problem:
    """A tiny problem of which much is broken at the start: over-full nodes and devices, tasks that
    no longer match where they run, halves of gangs, cordons, lost devices, exceeded limits.
    """
    rng = random.Random(seed)
    problem = tiny_problem(seed)
    first_device = {node.id: [d.id for d in node.devices][:1] for node in problem.nodes}
    nodes = tuple(
        replace(
            node,
            cpu_milli=node.cpu_milli // rng.choice((1, 1, 4, 8)),
            schedulable=rng.random() > 0.2,
            devices=tuple(replace(d, healthy=rng.random() > 0.15) for d in node.devices),
        )
        for node in problem.nodes
    )
    tight = {"gpu_milli": rng.choice((1000, 2500)), "cpu_milli": rng.choice((4000, 20_000))}
    queues = tuple(
        replace(
            queue,
            limit=tight if rng.random() < 0.4 else {},
            guaranteed=queue.guaranteed if seed % 2 else {},
        )
        for queue in problem.queues
    )
    tasks = tuple(_troubled_task(rng, task, first_device) for task in problem.tasks)
    return replace(problem, nodes=nodes, tasks=tasks, queues=queues, objective=("placed",))


def _troubled_task(rng: random.Random, task: Task, first: dict[str, list[str]]) -> Task:
    def crowd(slot: Slot) -> Slot:
        crowded = task.request.gpus == 1 and rng.random() < 0.4
        return replace(slot, devices=tuple(first[slot.node])) if crowded else slot

    placed = tuple(crowd(slot) for slot in task.placed if rng.random() > 0.1)
    memory_mib = rng.choice((0, 0, 9000, 20_000)) if task.request.gpus else 0
    return replace(
        task,
        placed=placed,
        request=replace(task.request, gpu_memory_mib=memory_mib),
        gpu_models=(rng.choice(("A100", "V100", "T4")),) if rng.random() < 0.2 else (),
        node_selector={"zone": (rng.choice("ab"),)} if rng.random() < 0.2 else {},
    )


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.filter_too_much])
@given(SEEDS)
def test_no_placement_beats_the_bound(seed: int) -> None:
    problem = troubled(seed)
    assume(size_of(problem) <= 1500)
    relaxation = Relaxation(as_arrays(problem))
    values = best_score(problem)[-len(relaxation.levels) :]  # repair comes before, if at all
    above: dict[int, int] = {}
    for level, value in zip(relaxation.levels, values, strict=True):
        assert relaxation.bound(level, above) >= value
        above[level] = value
    assert all(b >= v for b, v in zip(relaxation.bounds(values), values, strict=True))
