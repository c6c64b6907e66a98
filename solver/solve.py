"""The pipeline: quick answer -> exact search within the budget -> check -> plan with bounds and
reasons.
"""

from solver import check
from solver.bounds import free_bounds
from solver.deadline import Clock, Deadline
from solver.errors import SolverError
from solver.explain import explain
from solver.greedy import Answer, place_quickly
from solver.objective import TermName
from solver.plan import ObjectiveTerm, Placement, Plan, Stats, Status, relative_gap
from solver.problem import Problem, Task
from solver.repair import mended
from solver.replay import digest
from solver.restore import put_back
from solver.score import is_touched, score_slots, slots_before
from solver.steps import order_steps

MOST_PATTERNS = 20_000
"""Above so many decisions the exact model isn't built: it would have no time to improve anything.
"""
MOST_TOTAL = 2**58
"""Sums beyond this could overflow the 64-bit integers of the exact model."""

Bounds = tuple[int, ...]


class AnswerError(SolverError):
    """No answer of ours passed the check, not even leaving everything as it is: a bug of the
    solver.
    """

    code = "invalid_answer"


def solve(problem: Problem, *, clock: Clock | None = None) -> Plan:
    """The best plan found within ``problem.budget``, never none, and never one that breaks a rule.

    ``clock`` (``time.monotonic``, say) makes the budget wall time; the solver reads none of its
    own. In the deterministic preset it is ignored, and the same problem gives the same plan to the
    byte.
    """
    deadline = Deadline(problem.budget, clock)
    quick = _checked(problem, place_quickly(problem, mended(problem))) or slots_before(problem)
    quick_seconds = deadline.spent()
    free = free_bounds(problem)
    exact = _search(problem, quick, free, deadline)
    answer, bounds, searched = exact or (quick, free, False)
    answer = put_back(problem, answer, deadline)
    terms = _terms(problem, answer, bounds)
    return Plan(
        version=1,
        status=_status(terms, searched=searched),
        placements=tuple(
            Placement(task=task.id, replicas=answer[task.id])
            for task in problem.tasks
            if answer.get(task.id)
        ),
        moved=_touched(problem, answer, runs=True),
        evicted=_touched(problem, answer, runs=False),
        unplaced=explain(problem, answer, deadline),
        objective=terms,
        steps=order_steps(problem, answer),
        stats=Stats(
            seconds=round(deadline.spent(), 6),
            quick_seconds=round(quick_seconds, 6),
            workers=1 if problem.budget.deterministic else problem.budget.workers,
            digest=digest(problem),
        ),
    )


def _search(
    problem: Problem, quick: Answer, free: Bounds, deadline: Deadline
) -> tuple[Answer, Bounds, bool] | None:
    """The exact answer with its bounds, None where the model isn't built or has no time."""
    if _values(problem, quick) == free or deadline.left() <= 0 or not _is_within_range(problem):
        return None
    # Imported here: the quick answer of a large problem shouldn't wait for the exact back end to
    # load.
    from solver.cpsat.layout import lay_out  # noqa: PLC0415
    from solver.cpsat.search import ExactModel  # noqa: PLC0415

    layout = lay_out(problem, MOST_PATTERNS)
    if layout is None:
        return None
    outcome = ExactModel(layout, problem.budget, deadline).solve(quick, free)
    if outcome is None or _checked(problem, outcome.answer) is None:
        return None
    return outcome.answer, outcome.bounds, True


def _checked(problem: Problem, answer: Answer) -> Answer | None:
    """The answer if it breaks no rule. Nothing leaves the solver unchecked."""
    return None if check.slot_violations(problem, answer) else answer


def _values(problem: Problem, answer: Answer) -> Bounds:
    return tuple(entry.value for entry in score_slots(problem, answer))


def _terms(problem: Problem, answer: Answer, bounds: Bounds) -> tuple[ObjectiveTerm, ...]:
    entries = score_slots(problem, answer)
    for entry, bound in zip(entries, bounds, strict=True):
        over = entry.value - bound if entry.name == TermName.PLACED else bound - entry.value
        if over > 0:
            raise AnswerError(f"{entry.name} is {entry.value}, better than its bound {bound}")
    return tuple(
        ObjectiveTerm(
            name=entry.name,
            level=entry.level,
            value=entry.value,
            bound=bound,
            gap=relative_gap(entry.value, bound),
        )
        for entry, bound in zip(entries, bounds, strict=True)
    )


def _status(terms: tuple[ObjectiveTerm, ...], *, searched: bool) -> Status:
    if all(term.value == term.bound for term in terms):
        return Status.OPTIMAL
    return Status.FEASIBLE if searched else Status.TIMEOUT


def _touched(problem: Problem, answer: Answer, *, runs: bool) -> tuple[str, ...]:
    return tuple(
        task.id
        for task in problem.tasks
        if is_touched(task, answer.get(task.id, ())) and bool(answer.get(task.id)) is runs
    )


def _is_within_range(problem: Problem) -> bool:
    """True when no sum that the exact model forms can overflow."""
    watts = [node.idle_watts + sum(d.active_watts for d in node.devices) for node in problem.nodes]
    return sum(map(_largest_total, problem.tasks)) + sum(watts) < MOST_TOTAL


def _largest_total(task: Task) -> int:
    request = task.request
    per_replica = max(
        1000 * request.gpus,
        10 * request.cpu_milli,
        request.memory_mib,
        request.disk_mib,
        request.network_mbps,
        request.gpus * request.gpu_memory_mib,
    )
    return task.replicas * per_replica + task.move_cost + task.evict_cost
