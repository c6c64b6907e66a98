"""What holds for every problem, tried on generated ones."""

from dataclasses import replace

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from solver.check import violations
from solver.objective import OBJECTIVE_NAMES
from solver.pipeline import solve
from solver.plan import Plan
from solver.problem import Problem, Slot, Task
from solver.score import repair, slots_before
from tests.hash_seeds import outputs_of
from tests.oracle import best_score, size_of
from tests.problems import random_problem, tiny_problem, with_equal_nodes, with_watts

SEEDS = st.integers(min_value=0, max_value=10**9)
QUIET = settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.filter_too_much]
)


def small_problem(seed: int) -> Problem:
    problem = random_problem(seed, nodes=4, devices=4, tasks=10)
    return replace(problem, budget=replace(problem.budget, deterministic=True))


def worth(plan: Plan) -> tuple[int, ...]:
    """The objective with costs negated, so that more is better."""
    return tuple(term.value if term.name == "placed" else -term.value for term in plan.objective)


@QUIET
@given(SEEDS)
def test_no_plan_has_violations_and_gangs_are_whole_or_absent(seed: int) -> None:
    problem = small_problem(seed)
    plan = solve(problem)
    assert violations(problem, plan) == ()
    tasks = {task.id: task for task in problem.tasks}
    for placement in plan.placements:
        task = tasks[placement.task]
        assert len(placement.replicas) >= min(task.fewest, len(task.placed) or task.fewest)


@QUIET
@given(SEEDS)
def test_a_plan_without_time_has_no_violations_either(seed: int) -> None:
    problem = random_problem(seed, seconds=0)
    assert violations(problem, solve(problem)) == ()


@settings(QUIET, max_examples=80)
@given(SEEDS, st.permutations(OBJECTIVE_NAMES), st.booleans())
def test_tiny_problems_score_what_brute_force_scores(
    seed: int, objective: list[str], nodes_are_equal: bool
) -> None:
    problem = with_watts(replace(tiny_problem(seed), objective=tuple(objective)))
    problem = with_equal_nodes(problem) if nodes_are_equal else problem
    assume(size_of(problem) <= 2000)
    plan = solve(problem)
    assert violations(problem, plan) == ()
    assert plan.status == "optimal"
    assert worth(plan) == best_score(problem)


@QUIET
@given(SEEDS)
def test_more_capacity_never_places_less(seed: int) -> None:
    problem = replace(small_problem(seed), objective=("placed",))
    # Room that mends a broken start ends a term that comes before ``placed``.
    assume(not repair(problem, slots_before(problem)))
    # A spread gang has to use a value that has become large enough, so more room can bind it.
    tasks = tuple(replace(task, spread_over=None) for task in problem.tasks)
    problem = replace(problem, tasks=tasks)
    larger = replace(
        problem,
        nodes=tuple(
            replace(n, cpu_milli=n.cpu_milli * 2, memory_mib=n.memory_mib * 2)
            for n in problem.nodes
        ),
    )
    assert worth(solve(larger)) >= worth(solve(problem))


@QUIET
@given(SEEDS)
def test_renaming_everything_changes_no_value(seed: int) -> None:
    problem = small_problem(seed)
    plan, renamed = solve(problem), solve(renamed_problem(problem))
    assert plan.status == renamed.status == "optimal"
    assert worth(renamed) == worth(plan)


def renamed_problem(problem: Problem) -> Problem:
    """The same problem under ids that sort the other way round."""
    nodes = {node.id: f"x{999 - i}" for i, node in enumerate(problem.nodes)}
    tasks = {task.id: f"y{999 - i}" for i, task in enumerate(problem.tasks)}

    def rename(task: Task) -> Task:
        return replace(
            task,
            id=tasks[task.id],
            separate_from=tuple(tasks[other] for other in task.separate_from),
            placed=tuple(Slot(node=nodes[s.node], devices=s.devices) for s in task.placed),
        )

    return replace(
        problem,
        nodes=tuple(replace(node, id=nodes[node.id]) for node in reversed(problem.nodes)),
        tasks=tuple(map(rename, reversed(problem.tasks))),
    )


def test_the_deterministic_preset_gives_the_same_bytes_under_three_hash_seeds() -> None:
    script = (
        "import sys, time\n"
        "from app.planning.documents import answer_bytes\n"
        "from solver.pipeline import solve\n"
        "from tests.property.test_solver import small_problem\n"
        "for seed in range(6):\n"
        "    plan = solve(small_problem(seed), clock=time.monotonic)\n"
        "    sys.stdout.buffer.write(answer_bytes(plan))\n"
    )
    outputs = outputs_of(script)
    assert len(outputs) == 1
