"""From a project to a schedule: bounds, the heuristic, and the exact search from what it found."""

from importlib import import_module

import numpy as np

from solver.arrays import Ints
from solver.deadline import Clock, Deadline
from solver.errors import SolverError
from solver.scheduling.projects import check
from solver.scheduling.projects.arrays import ProjectArrays
from solver.scheduling.projects.bounds import lower_bound
from solver.scheduling.projects.exact import ExactModel
from solver.scheduling.projects.genetic import GeneticSearch
from solver.scheduling.projects.project import Project
from solver.scheduling.projects.schedule import Schedule, Status
from solver.scheduling.projects.slack import critical, slack

SMALL_TASKS = 45
SMALL_TURNS = ((0.04, 0.96),)
TURNS = ((0.05, 0.15), (0.5, 0.3))
"""Shares of the budget, heuristic and exact in turn. Up to ``SMALL_TASKS`` the exact search proves
nearly all in seconds, and the heuristic only saves it a start; beyond, it proves most projects at
once or not at all. What is left over goes to the last one."""
MOST_EXACT_TASKS = 1_000
"""Beyond, the exact search finds nothing in the time that loading it takes."""


class WrongScheduleError(SolverError):
    """A search gave starts that break a rule: a fault of ours, never of the project."""

    code = "wrong_schedule"


def load(_: Project) -> None:
    """Loads what scheduling takes, compiled code included, before any budget counts."""
    import_module("solver.compiled.breeding")
    import_module("ortools.sat.python.cp_model")


def schedule(project: Project, clock: Clock | None = None) -> Schedule:
    """The best schedule found within the budget, checked, with a proven bound.

    Without a ``clock`` the searches' own wall times are counted.
    """
    deadline = Deadline(project.budget.as_of_placement(), clock)
    if not project.tasks:
        return Schedule(
            status=Status.OPTIMAL,
            objective=project.objective,
            value=0,
            makespan=0,
            bound=0,
            gap=0.0,
        )
    search = _Search(project, deadline)
    search.run()
    return search.answer()


class _Search:
    """What is known of one project: the best schedule so far and the bound."""

    def __init__(self, project: Project, deadline: Deadline) -> None:
        self.project = project
        self.deadline = deadline
        self.arrays = ProjectArrays.of(project)
        self.bound = lower_bound(self.arrays)
        self.starts: Ints | None = None
        self.value = 0
        self.is_infeasible = False

    def run(self) -> None:
        genetic = GeneticSearch(self.arrays, self.project.budget.seed)
        seconds = self.project.budget.seconds
        is_large = len(self.arrays.names) > MOST_EXACT_TASKS
        turns = SMALL_TURNS if len(self.arrays.names) <= SMALL_TASKS else TURNS
        for share, exact_share in turns:
            is_last = (share, exact_share) == turns[-1]
            longest = self.deadline.left() if is_last and is_large else share * seconds
            genetic.run(self.deadline, longest, self.bound)
            if genetic.lateness == 0:
                self._keep(genetic.starts)
            if not is_large and not self._is_over():
                self._search_exactly(self.deadline.left() if is_last else exact_share * seconds)
            if self._is_over():
                return

    def _search_exactly(self, seconds: float) -> None:
        found = ExactModel(self.arrays, self.starts, self.bound).solve(
            self.project.budget, self.deadline, min(seconds, self.deadline.left())
        )
        self.is_infeasible = found.is_infeasible and self.starts is None
        if found.starts is not None:
            self._keep(found.starts)
        if found.bound is not None:
            self.bound = max(self.bound, found.bound)

    def _keep(self, starts: Ints) -> None:
        """Keeps the schedule if it's the best one; it is checked first."""
        named = self.arrays.named(starts)
        broken = check.violations(self.project, named)
        if broken:
            raise WrongScheduleError(f"{len(broken)} rules are broken: {broken[0]}")
        value = check.value(self.project, named)
        if self.starts is None or value < self.value:
            self.starts, self.value = starts, value

    def _is_over(self) -> bool:
        is_proven = self.starts is not None and self.value == self.bound
        return is_proven or self.is_infeasible or self.deadline.left() <= 0

    def answer(self) -> Schedule:
        spent, objective = self.deadline.spent(), self.project.objective
        if self.starts is None:
            status = Status.INFEASIBLE if self.is_infeasible else Status.UNKNOWN
            bound = None if self.is_infeasible else self.bound
            return Schedule(status=status, objective=objective, bound=bound, seconds=spent)
        starts = self.arrays.named(self.starts)
        stay = self._ordered(critical(self.arrays, self.starts)).tolist()
        is_proven = self.value == self.bound
        return Schedule(
            status=Status.OPTIMAL if is_proven else Status.FEASIBLE,
            objective=objective,
            value=self.value,
            makespan=check.makespan(self.project, starts),
            bound=self.bound,
            gap=abs(self.bound - self.value) / max(1, abs(self.bound)),
            starts={task.id: starts[task.id] for task in self.project.tasks},
            slack=self._in_order(slack(self.arrays, self.starts)),
            critical=tuple(
                task.id for task, stays in zip(self.project.tasks, stay, strict=True) if stays
            ),
            seconds=spent,
        )

    def _in_order(self, values: Ints) -> dict[str, int]:
        ids = (task.id for task in self.project.tasks)
        return dict(zip(ids, self._ordered(values).tolist(), strict=True))

    def _ordered(self, values: np.ndarray) -> np.ndarray:
        """Values by the tasks' numbers, in the order in which the project lists the tasks."""
        number = {name: j for j, name in enumerate(self.arrays.names)}
        return values[[number[task.id] for task in self.project.tasks]]
