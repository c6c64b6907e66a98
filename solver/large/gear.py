"""The large gear: a first answer, a relaxation that bounds and guides, and search in between."""

from solver.arrays import Arrays
from solver.certificate import Certificate
from solver.deadline import Deadline
from solver.greedy import Answer
from solver.large.merit import kinds_of, merit_of
from solver.large.search import LargeSearch
from solver.objective import TermName
from solver.score import is_touched, repair, terms_of

RELAXATION_SHARE = 0.5
"""The part of the budget that linear programs may take before the search goes on without."""
SECONDS_PER_UNIT = 4e-5
SECONDS_PER_DEVICE = 3e-5
"""What checking, scoring, explaining and naming takes for each replica and device, about."""
SECONDS_PER_RUNNING = 8e-5
"""And seeing whether a running task was moved in vain."""


class LargeGear:
    """One problem's search. It can be stopped, asked, and taken up again."""

    def __init__(
        self, arrays: Arrays, certificate: Certificate, start: Answer, deadline: Deadline
    ) -> None:
        self.problem = arrays.problem
        self.certificate = certificate
        self.deadline = deadline
        self._arrays = arrays
        self._start = start
        self._moved = {t.id for t in self.problem.tasks if is_touched(t, start.get(t.id, ()))}
        self._search = LargeSearch(arrays, start, self._moved)
        self._search.construct(deadline)
        self._search.preempt(deadline)
        is_broken = TermName.REPAIR in terms_of(self.problem)
        self._unmended = (repair(self.problem, start),) if is_broken else ()
        units = sum(task.replicas for task in self.problem.tasks)
        devices = len(arrays.cluster.device_kind)
        running = sum(bool(task.placed) for task in self.problem.tasks)
        self._reserve = (
            SECONDS_PER_UNIT * units + SECONDS_PER_DEVICE * devices + SECONDS_PER_RUNNING * running
        )

    def search(self, share: float, patience: int | None = None) -> bool:
        """Improves the answer until it is proven, ``share`` of the budget is spent, or so many
        ruins of each node in a row were in vain; whether there was time for it.
        """
        reserve = self._reserve + (1 - share) * self.problem.budget.seconds
        if self.deadline.left() <= reserve:
            return False
        if self.certificate.relaxation is None:
            self._relax()
        goal = self.certificate.bounds(self.values())[len(self._unmended) :]
        self._search.consolidate()
        self._search.improve(self.deadline, goal, reserve, patience)
        return True

    def answer(self) -> Answer:
        """The slots of everything that runs."""
        return self._search.answer()

    def values(self) -> tuple[int, ...]:
        """The entries of the objective, as a plan reports them."""
        return (*self._unmended, *self._search.board.values())

    def _relax(self) -> None:
        """Solves the relaxation, and starts once more from what it suggests if that is better. A
        proven answer needs no other.
        """
        self.certificate.relax(self._arrays, RELAXATION_SHARE * self.problem.budget.seconds)
        relaxation = self.certificate.relaxation
        if relaxation is None or self.values() == self.certificate.bounds(self.values()):
            return
        guidance = relaxation.guidance(self.certificate.scarce_level(relaxation))
        guided = LargeSearch(self._arrays, self._start, self._moved)
        for search in (self._search, guided):
            search.guide(*merit_of(self._arrays, guidance))
        guided.construct(self.deadline, kinds_of(guidance))
        guided.construct(self.deadline)
        guided.preempt(self.deadline)
        if guided.board.gains() > self._search.board.gains():
            self._search = guided
