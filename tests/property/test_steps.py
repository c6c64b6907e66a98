"""Steps carried out in any order that their waves allow, on generated clusters."""

import random
from collections import Counter
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from solver.check_steps import step_faults
from solver.greedy import place_quickly
from solver.objective import NODE_DIMENSIONS
from solver.pipeline import solve
from solver.plan import Placement, Plan, Stats, Status, Step
from solver.problem import Problem, Slot, Task
from solver.steps import order_steps
from tests.problems import random_problem

SEEDS = st.integers(min_value=0, max_value=10**9)
QUIET = settings(deadline=None, max_examples=40)

Slots = dict[str, tuple[Slot, ...]]


def shuffled_cluster(seed: int) -> tuple[Problem, Slots]:
    """A problem whose tasks run in one packing, and another packing of the same tasks to go to."""
    problem = random_problem(seed, nodes=6, devices=4, tasks=40)
    idle = replace(problem, tasks=tuple(replace(task, placed=()) for task in problem.tasks))
    before = place_quickly(idle)
    after = place_quickly(
        replace(idle, nodes=idle.nodes[::-1], tasks=tuple(_shuffled(t, seed) for t in idle.tasks))
    )
    tasks = tuple(replace(task, placed=before.get(task.id, ())) for task in problem.tasks)
    return replace(problem, tasks=tasks), after


def _shuffled(task: Task, seed: int) -> Task:
    return replace(task, priority=random.Random(f"{seed}{task.id}").randrange(9))


def carry_out(problem: Problem, after: Slots, steps: tuple[Step, ...], seed: int) -> None:
    """Does the steps in a random order within each wave and counts everything anew each time."""
    rng = random.Random(seed)
    tasks = {task.id: task for task in problem.tasks}
    running = {task.id: [slot.key for slot in task.placed] for task in problem.tasks}
    most = held(problem, {task: [slot.key for slot in slots] for task, slots in after.items()})
    for place, capacity in sizes(problem).items():
        most[place] = max(most[place], capacity)
    begun: set[str] = set()
    for wave in sorted({step.wave for step in steps}):
        doing = [step for step in steps if step.wave == wave]
        rng.shuffle(doing)
        for step in doing:
            if step.kind == "stop":
                assert step.task not in begun
                for slot in step.replicas:
                    running[step.task].remove(slot.key)
                continue
            begun.add(step.task)
            running[step.task] += [slot.key for slot in step.replicas]
            wanted = Counter(slot.key for slot in after[step.task])
            assert not Counter(running[step.task]) - wanted, "it runs twice"
            use = held(problem, running)
            for slot in step.replicas:
                for place, quantity in use.items():
                    assert (
                        place[0] != slot.node
                        or not _needs(tasks[step.task], slot, place)
                        or (quantity <= most[place])
                    ), place
    assert {t: Counter(keys) for t, keys in running.items() if keys} == {
        t: Counter(slot.key for slot in slots) for t, slots in after.items() if slots
    }


def _needs(task: Task, slot: Slot, place: tuple[str, ...]) -> int:
    return getattr(task.request, place[-1]) if len(place) == 2 or place[1] in slot.devices else 0


def held(problem: Problem, running: dict[str, list]) -> Counter:
    use: Counter = Counter()
    for task in problem.tasks:
        for node, devices in running.get(task.id, ()):
            for name in NODE_DIMENSIONS:
                use[node, name] += getattr(task.request, name)
            for device in devices:
                for name in ("gpu_milli", "gpu_memory_mib"):
                    use[node, device, name] += getattr(task.request, name)
    return use


def sizes(problem: Problem) -> dict[tuple[str, ...], int]:
    of_nodes = {(n.id, name): getattr(n, name) for n in problem.nodes for name in NODE_DIMENSIONS}
    of_devices = {
        (n.id, d.id, name): size
        for n in problem.nodes
        for d in n.devices
        for name, size in (("gpu_milli", 1000), ("gpu_memory_mib", d.memory_mib))
    }
    return of_nodes | of_devices


@QUIET
@given(SEEDS)
def test_from_any_packing_to_any_other_nothing_is_taken_before_it_is_free(seed: int) -> None:
    problem, after = shuffled_cluster(seed)
    steps = order_steps(problem, after)
    carry_out(problem, after, steps, seed)
    plan = Plan(
        version=1,
        status=Status.FEASIBLE,
        placements=tuple(Placement(task=t, replicas=slots) for t, slots in after.items()),
        steps=steps,
        stats=Stats(seconds=0, quick_seconds=0, workers=1, digest=""),
    )
    assert list(step_faults(problem, plan)) == []


@QUIET
@given(SEEDS)
def test_each_task_stops_at_most_once_and_starts_at_most_once(seed: int) -> None:
    problem, after = shuffled_cluster(seed)
    done = Counter((step.kind, step.task) for step in order_steps(problem, after))
    assert not done or max(done.values()) == 1


@settings(QUIET, max_examples=25)
@given(SEEDS)
def test_the_steps_of_a_solved_plan_lead_to_its_placements(seed: int) -> None:
    problem = random_problem(seed, nodes=4, devices=4, tasks=12)
    problem = replace(problem, budget=replace(problem.budget, deterministic=True))
    plan = solve(problem)
    after = {placement.task: placement.replicas for placement in plan.placements}
    carry_out(problem, after, plan.steps, seed)
