"""Deadlines that can be kept, or every one that can't, by name."""

import numpy as np

from solver.allocation.fleet import Fleet, Floats
from solver.allocation.jobs import Jobs
from solver.allocation.levels import LevelSearch
from solver.errors import Fault, InvalidProblem
from solver.reading import fault_at

_SLACK = 1e-9
"""Relative: a deadline missed by less is kept; the sums that say so are no more precise."""
_NOT_EVEN_ALONE = "can't be met, even if nobody else ran"


def keep(asked: Jobs, fleet: Fleet, needed: Floats) -> tuple[Floats, ...]:
    """Shares with which each job reaches its ``needed`` [m] speed; none where nobody needs any.

    Raises :class:`InvalidProblem` with the deadlines that can't be kept: first those that a job
    would miss alone on the fastest type, then, if there are none, some that exclude one another.
    """
    if not needed.any():
        return ()
    fastest = fleet.fastest
    alone = np.flatnonzero(needed > fastest * (1.0 + _SLACK)).tolist()
    if alone:
        raise InvalidProblem(tuple(_fault(asked, i, _NOT_EVEN_ALONE) for i in alone))

    def needs(part: float) -> Floats:
        return np.minimum(part * needed, fastest)

    found = LevelSearch(fleet).highest(needs, 0.0, 1.0)
    if found.proof is None or found.level >= 1.0 - _SLACK:
        return (found.shares,)
    # At the prices of the proof the deadlines cost more than all accelerators are worth: the
    # dearest of them that already do are enough to say so.
    cost = found.proof.envelope.costs(needs(1.0))
    order = np.argsort(-cost, kind="stable")
    enough = int(np.searchsorted(np.cumsum(cost[order]), 1.0 + _SLACK / 2)) + 1
    together = sorted(order[:enough].tolist())
    others = len(together) - 1
    reason = f"can't be met beside {others} others named here" if others else _NOT_EVEN_ALONE
    raise InvalidProblem(tuple(_fault(asked, i, reason) for i in together))


def _fault(asked: Jobs, i: int, reason: str) -> Fault:
    return fault_at(f"jobs[{i}].deadline_seconds", asked.jobs[i].deadline_seconds, reason)
