"""The exact search: CP-SAT over intervals, from the heuristic's schedule as hint and limit."""

from dataclasses import dataclass

import numpy as np
from ortools.sat.python import cp_model
from ortools.sat.python.cp_model import IntervalVar, IntVar, LinearExpr

from solver.arrays import Ints
from solver.deadline import Deadline
from solver.scheduling.projects.arrays import ProjectArrays
from solver.scheduling.projects.project import Budget


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the search gave. ``starts`` is None without a schedule, ``bound`` without a proof."""

    starts: Ints | None = None
    bound: int | None = None
    is_infeasible: bool = False


class ExactModel:
    """Variables and rules (docs/model.md, S1 to S5) of one project."""

    def __init__(self, arrays: ProjectArrays, hint: Ints | None, bound: int) -> None:
        """``hint`` is a schedule that obeys every rule; no worse one is looked for."""
        self.arrays = arrays
        self.model = cp_model.CpModel()
        self.hint = hint
        durations = arrays.durations
        horizon = int(arrays.heads.max(initial=0) + durations.sum())
        self.limit = horizon  # where nothing could start earlier, it's all over by then
        if hint is not None and not len(arrays.weights):
            self.limit = int((hint + durations).max())
        dues = np.minimum(arrays.dues, self.limit - arrays.tails())
        latest = dues - durations
        self.starts = [
            self.model.new_int_var(least, most, "")
            for least, most in zip(arrays.heads.tolist(), latest.tolist(), strict=True)
        ]
        self._add_order()
        self._add_capacities()
        self._add_objective(bound)

    def _add_order(self) -> None:
        """(S3)"""
        durations = self.arrays.durations.tolist()
        for j, start in enumerate(self.starts):
            for i in self.arrays.waits(j):
                self.model.add(start >= self.starts[i] + durations[i])

    def _add_capacities(self) -> None:
        """(S4)"""
        durations = self.arrays.durations.tolist()
        intervals: dict[int, IntervalVar] = {}
        capacity = self.arrays.capacity.tolist()
        held: list[list[tuple[IntervalVar, int]]] = [[] for _ in capacity]
        for j, start in enumerate(self.starts):
            needs = self.arrays.needs(j) if durations[j] else ()
            for k, amount in needs:
                if j not in intervals:
                    intervals[j] = self.model.new_fixed_size_interval_var(start, durations[j], "")
                held[k].append((intervals[j], amount))
        for k, pairs in enumerate(held):
            if sum(amount for _, amount in pairs) > capacity[k]:
                self.model.add_cumulative(
                    [interval for interval, _ in pairs], [a for _, a in pairs], capacity[k]
                )

    def _add_objective(self, bound: int) -> None:
        """(S5)"""
        durations = self.arrays.durations.tolist()
        if len(self.arrays.weights):
            weights = self.arrays.weights.tolist()
            offset = sum(w * d for w, d in zip(weights, durations, strict=True))
            self.model.minimize(LinearExpr.weighted_sum(self.starts, weights) + offset)
        else:
            self.final: IntVar = self.model.new_int_var(min(bound, self.limit), self.limit, "")
            behind_from = self.arrays.mirror[1]
            for j, start in enumerate(self.starts):
                if behind_from[j] == behind_from[j + 1]:
                    self.model.add(self.final >= start + durations[j])
            self.model.minimize(self.final)
        if self.hint is not None:
            for start, value in zip(self.starts, self.hint.tolist(), strict=True):
                self.model.add_hint(start, value)
            if not len(self.arrays.weights):
                self.model.add_hint(self.final, self.limit)

    def solve(self, budget: Budget, deadline: Deadline, seconds: float) -> Outcome:
        """Searches for so long."""
        solver = cp_model.CpSolver()
        parameters = solver.parameters
        parameters.random_seed = budget.seed
        # Of the searches that CP-SAT has, the one without a linear relaxation proves the hard small
        # projects soonest: j3013_1 in 5 to 6 s, the default not in 12 s (2 workers).
        parameters.subsolvers.extend(("no_lp", "default_lp"))
        if budget.deterministic:
            parameters.num_workers = 1
            parameters.max_deterministic_time = seconds
        else:
            parameters.num_workers = budget.workers
            parameters.max_time_in_seconds = seconds
        status = solver.solve(self.model)
        response = solver.response_proto
        deadline.charge(
            wall_seconds=response.wall_time, deterministic_seconds=response.deterministic_time
        )
        if status == cp_model.INFEASIBLE:
            return Outcome(is_infeasible=True)
        if status not in {cp_model.OPTIMAL, cp_model.FEASIBLE}:
            return Outcome()  # the back end's bound is void when its status is unknown
        starts = np.array([solver.value(start) for start in self.starts], dtype=np.int64)
        return Outcome(starts=starts, bound=round(solver.best_objective_bound))
