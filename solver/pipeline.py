"""The pipeline: quick answer -> search within the budget -> check -> plan with bounds and reasons.

Three gears make the same kind of plan. ``solver.instant`` places one arrival at once. The exact one
(``solver.cpsat``) proves. The large one (``solver.large``) searches where a proof is out of reach,
between the quick answer and the bounds of a linear program; where the exact one can be built too,
it takes over what was found.
"""

from dataclasses import dataclass
from importlib import import_module

from solver import check
from solver.arrays import as_arrays
from solver.certificate import Bounds, Certificate
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
LARGE = 600
"""From so many pairs of a replica and a node on the large gear comes first. Below, loading its
compiled code would take longer than a proof."""
VERY_LARGE = 200_000
"""From so many pairs on nothing is proven by search."""
SHARE_BEFORE_PROOF = 0.3
"""The part of the budget that the large gear has where the exact one can be built."""
RELAXATION_SHARE = 0.2
"""The part of the budget that a small problem's linear programs may take."""
PATIENCE = 8_000
"""Ruins of each node in vain before the exact gear takes over."""
MOST_UNITS = 1_000_000
"""With more replicas, even listing them takes more memory than an answer is worth."""
MOST_TOTAL = 2**58
"""Sums beyond this could overflow the 64-bit integers of the gears."""


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

    A share doesn't fit beside the one that runs, unless somebody moves:

    >>> from solver import Budget, Device, Node, Problem, Request, Slot, Task
    >>> nodes = tuple(Node(id=name, devices=(Device(id="0"),)) for name in ("a", "b"))
    >>> one_on_a = Task(
    ...     id="one",
    ...     request=Request(gpus=1, gpu_milli=400),
    ...     placed=(Slot(node="a", devices=("0",)),),
    ... )
    >>> two_on_b = Task(
    ...     id="two",
    ...     request=Request(gpus=1, gpu_milli=500),
    ...     placed=(Slot(node="b", devices=("0",)),),
    ... )
    >>> whole = Task(id="whole", request=Request(gpus=1))
    >>> budget = Budget(deterministic=True)
    >>> tasks = (one_on_a, two_on_b, whole)
    >>> plan = solve(Problem(version=1, nodes=nodes, tasks=tasks, budget=budget))
    >>> plan.status.value, len(plan.moved), plan.evicted
    ('optimal', 1, ())
    >>> [(step.wave, step.kind.value) for step in plan.steps]
    [(0, 'stop'), (1, 'start'), (1, 'start')]
    """
    deadline = Deadline(problem.budget, clock)
    run = _Run(problem, deadline)
    run.search()
    answer = put_back(problem, run.answer, deadline)
    name = digest(problem)
    terms = _terms(problem, answer, run.bounds)
    return Plan(
        version=1,
        status=_status(terms, searched=run.searched),
        placements=tuple(
            Placement(task=task.id, replicas=answer[task.id])
            for task in problem.tasks
            if answer.get(task.id)
        ),
        moved=_touched(problem, answer, runs=True),
        evicted=_touched(problem, answer, runs=False),
        unplaced=explain(problem, answer, deadline, run.arrays),
        objective=terms,
        prices=run.certificate.prices(),
        steps=order_steps(problem, answer),
        stats=Stats(
            seconds=round(deadline.spent(), 6),
            quick_seconds=round(run.quick_seconds, 6),
            workers=1 if problem.budget.deterministic else problem.budget.workers,
            digest=name,
        ),
    )


def load(problem: Problem) -> None:
    """Imports what solving the problem takes, most of a second the first time. ``solve`` does so by
    itself; whoever measures it calls this before the clock starts.
    """
    size = _size(problem)
    if size.is_large:
        import_module("solver.large.gear")
    if problem.budget.seconds > 0:
        import_module("solver.highs.relaxation")
        if size.is_large:
            for name in ("gangs", "moves", "refill"):
                import_module(f"solver.compiled.{name}")
        if size.pairs < VERY_LARGE:
            import_module("solver.cpsat.search")


@dataclass(frozen=True, slots=True)
class _Size:
    """What decides which gears a problem gets."""

    pairs: int
    """Of a replica and a node."""
    is_countable: bool
    """No sum that a gear forms can overflow."""
    is_large: bool


def _size(problem: Problem) -> _Size:
    units = sum(task.replicas for task in problem.tasks)
    pairs = units * len(problem.nodes)
    is_countable = _is_within_range(problem)
    return _Size(pairs, is_countable, is_countable and pairs >= LARGE and units <= MOST_UNITS)


class _Run:
    """One solve: the best answer so far, which breaks no rule, and what is proven about it."""

    def __init__(self, problem: Problem, deadline: Deadline) -> None:
        self.problem = problem
        self.deadline = deadline
        self.certificate = Certificate(problem)
        self.answer: Answer = slots_before(problem)
        self.values: Bounds = self._values()
        self.bounds: Bounds = self.certificate.free
        self.searched = False
        self.quick_seconds = 0.0
        self.arrays = as_arrays(problem)
        self._size = _size(problem)

    def search(self) -> None:
        """Quick answer, search, proof: as far as the budget goes and the problem allows."""
        start = mended(self.problem)
        if not (self._size.is_large and self._search_widely(start)):
            self._take(place_quickly(self.problem, start))
            self.quick_seconds = self.deadline.spent()
            is_done = self._is_proven() and len(self.answer) == len(self.problem.tasks)
            if self._size.is_countable and not is_done and self.deadline.left() > 0:
                seconds = RELAXATION_SHARE * self.problem.budget.seconds
                self.certificate.relax(self.arrays, seconds)
                self.bounds = self.certificate.bounds(self.values)
                if not self._is_proven():
                    self._prove()

    def _search_widely(self, start: Answer) -> bool:
        """The large gear; False if its answer is of no use."""
        # Imported here, as the exact gear is: a small problem's answer shouldn't wait for it.
        from solver.large.gear import LargeGear  # noqa: PLC0415

        gear = LargeGear(self.arrays, self.certificate, start, self.deadline)
        self.quick_seconds = self.deadline.spent()
        if self._size.pairs < VERY_LARGE:
            self.searched = gear.search(SHARE_BEFORE_PROOF, PATIENCE)
            if not self._take(gear.answer()):
                return False
            self.bounds = self.certificate.bounds(self.values)
            if self._is_proven() or self._prove():
                return True
        self.searched = gear.search(1.0) or self.searched
        if not self._take(gear.answer()):
            return False
        self.bounds = self.certificate.bounds(self.values)
        return True

    def _prove(self) -> bool:
        """The exact gear, from the answer at hand; False where its model can't be built in time."""
        if self.deadline.left() <= 0:
            return False
        from solver.cpsat.layout import lay_out  # noqa: PLC0415
        from solver.cpsat.search import ExactModel  # noqa: PLC0415

        layout = lay_out(self.problem, MOST_PATTERNS, self.deadline)
        if layout is None:
            return False
        outcome = ExactModel(layout, self.problem.budget, self.deadline).solve(
            self.answer, self.bounds
        )
        if outcome is None or not self._take(outcome.answer):
            return False
        self.bounds = outcome.bounds
        self.searched = True
        return True

    def _take(self, answer: Answer) -> bool:
        """Makes the answer ours unless it breaks a rule. Nothing leaves the solver unchecked."""
        if check.slot_violations(self.problem, answer):
            return False
        self.answer = answer
        self.values = self._values()
        return True

    def _values(self) -> Bounds:
        return tuple(entry.value for entry in score_slots(self.problem, self.answer))

    def _is_proven(self) -> bool:
        return self.values == self.bounds


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
