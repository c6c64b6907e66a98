"""The whole queue at once: reasons for every waiting task, and fixes for the most urgent ones."""

from collections.abc import Hashable, Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from solver.arrays import Arrays, as_arrays
from solver.deadline import Deadline
from solver.eligibility import separated
from solver.explain import fitting, reasons
from solver.explain.fitting import Ask
from solver.explain.fixes import Fixing
from solver.explain.ground import Ground
from solver.explain.rivals import Rivals
from solver.explain.room import Room, Running
from solver.greedy import Answer
from solver.plan import Fix, FixKind, Reason, ReasonCode, Unplaced
from solver.problem import Problem, Request, Task

ALLOWANCE_SECONDS = 0.25
"""Reasons are part of the answer, so they may take this long beyond the budget. Then fixes are cut,
and tasks that are left are told what one look shows.
"""
MOST_KINDS = 5000
"""So many kinds of waiting task are looked at on every node; the rest are told what one look shows,
also where there is no clock.
"""
MOST_FIXED = 50
"""Fixes are tried for so many kinds of waiting task, the most urgent first."""
MOST_FIXES = 8
"""No task is offered more: the cheapest."""


MOST_GLANCES = 1000
"""And so many different wishes get a look of their own."""
_UNSEEN = Reason(code=ReasonCode.NO_CAPACITY, text="no room was found in the time that there was")


class Kind(NamedTuple):
    """Tasks that wait for the same reasons: they differ in nothing but their names."""

    ask: Ask
    members: list[int]


class Explanation(NamedTuple):
    """What all tasks of a kind are told."""

    reasons: tuple[Reason, ...]
    fixes: tuple[Fix, ...] = ()


def explain(
    problem: Problem, answer: Answer, deadline: Deadline, arrays: Arrays | None = None
) -> tuple[Unplaced, ...]:
    """One entry for each task that doesn't run under the answer, in the problem's order.

    ``arrays`` are those of the problem, for a caller that has them already.
    """
    tasks = problem.tasks
    waiting = [i for i, task in enumerate(tasks) if not answer.get(task.id)]
    if not waiting:
        return ()
    arrays = as_arrays(problem) if arrays is None else arrays
    ground = Ground(arrays)
    running = Running(ground, answer)
    room = Room(ground, running)
    apart = {
        task: tuple(running.index[other] for other in others)
        for task, others in separated(problem).items()
    }
    kinds = _kinds(ground, arrays, waiting, apart)
    rivals = Rivals(room, lambda t: Ask(ground, tasks[t], apart.get(tasks[t].id, ())))
    told: list[Explanation] = []
    glance = _Glance(room)
    for kind in kinds:
        if len(told) >= MOST_KINDS or deadline.is_over(allowance_seconds=ALLOWANCE_SECONDS):
            told.append(Explanation(glance.reasons(kind.ask)))
        else:
            told.append(Explanation(tuple(_reasons(room, kind.ask, rivals))))
    fixing = Fixing(room, rivals)
    for i, kind in enumerate(kinds[:MOST_FIXED]):
        if deadline.is_over(allowance_seconds=ALLOWANCE_SECONDS):
            break
        told[i] = _with_fixes(told[i], kind.ask, fixing, rivals)
    told_of = {t: told[i] for i, kind in enumerate(kinds) for t in kind.members}
    return tuple(_named(tasks[t], told_of[t]) for t in waiting)


def _kinds(
    ground: Ground, arrays: Arrays, waiting: list[int], apart: dict[str, tuple[int, ...]]
) -> list[Kind]:
    """The kinds of waiting task, the most urgent first."""
    tasks, shape = ground.problem.tasks, arrays.shape.tolist()
    members: dict[Hashable, list[int]] = {}
    for t in waiting:
        task = tasks[t]
        others = apart.get(task.id, ()) if apart else ()
        key = shape[t], task.queue, task.priority, task.replicas, task.fewest, others
        members.setdefault(key, []).append(t)
    firsts = {key: min(tasks[t].id for t in those) for key, those in members.items()}
    ordered = sorted(members, key=lambda k: (-tasks[members[k][0]].priority, firsts[k]))
    return [
        Kind(Ask(ground, tasks[those[0]], apart.get(tasks[those[0]].id, ())), those)
        for those in (members[key] for key in ordered)
    ]


def _named(task: Task, told: Explanation) -> Unplaced:
    if not told.fixes:
        return Unplaced(task=task.id, reasons=told.reasons)
    own = tuple(_shrink_of(task, fix) if fix.kind is FixKind.SHRINK else fix for fix in told.fixes)
    return Unplaced(task=task.id, reasons=told.reasons, fixes=own)


def _shrink_of(task: Task, fix: Fix) -> Fix:
    """The fix for another task of the kind; ``replace`` would take three times as long."""
    return Fix(
        kind=fix.kind,
        text=fix.text,
        task=task.id,
        dimension=fix.dimension,
        quantity=fix.quantity,
        cost=fix.cost,
    )


def _reasons(room: Room, ask: Ask, rivals: Rivals) -> Iterator[Reason]:
    """Every reason that holds; at least one."""
    if not room.ground.nodes:
        yield Reason(code=ReasonCode.NO_CAPACITY, text="there are no nodes", nodes=0)
        return
    found = reasons.blocked(room, ask)
    rules = reasons.rules_in_the_way(room, ask, found)
    given = [
        *reasons.limit_reasons(room, ask),
        *reasons.describe(room, ask, found, rules),
    ]
    if given:
        yield from given
        yield from rivals.reasons(ask)
        return
    # It would fit where things ended: an earlier objective term kept it out, or the time.
    text = "it fits only where it would cost a term that comes first in the objective"
    yield Reason(code=ReasonCode.NO_CAPACITY, text=text, nodes=len(room.ground.nodes))


def _with_fixes(told: Explanation, ask: Ask, fixing: Fixing, rivals: Rivals) -> Explanation:
    """What a search finds: changes that would make room, and whether moves are exhausted."""
    if fitting.fits(fixing.room, ask):
        return told
    more: list[Reason] = []
    if all(reason.code is not ReasonCode.MOVES_EXHAUSTED for reason in told.reasons):
        more += rivals.after_search(ask)
    return Explanation((*told.reasons, *more), fixing.of(ask)[:MOST_FIXES])


class _Glance:
    """What is true by one look for all tasks with the same wishes, whatever else they ask for."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self._known: dict[Hashable, tuple[Reason, ...]] = {}

    def reasons(self, ask: Ask) -> tuple[Reason, ...]:
        task = ask.task
        key = task.gpu_models, task.pack_within, task.spread_over, bool(task.request.gpus)
        if task.node_selector:
            key = *key, tuple(sorted(task.node_selector.items()))
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= MOST_GLANCES:
                return (_UNSEEN,)
            found = self._known[key] = tuple(self._look(ask))
        limits = reasons.limit_reasons(self.room, ask)
        return (*limits, *found) if self.room.running.charged else found

    def _look(self, ask: Ask) -> Iterator[Reason]:
        """Why even the least replica with these wishes wouldn't fit; true for any larger one."""
        task = ask.task
        least = Request(gpus=1, gpu_milli=1) if task.request.gpus else Request()
        single = Ask(ask.ground, replace(task, request=least, replicas=1, min_replicas=1))
        blocked = reasons.blocked(self.room, single)
        rules = reasons.rules_in_the_way(self.room, single, blocked)
        if rules:
            yield from reasons.describe(self.room, single, blocked, rules)
            return
        nodes = int(np.count_nonzero(fitting.fits_one(self.room, single)))
        text = f"no room was found on the {nodes} node{'s' * (nodes != 1)} that could take it"
        yield Reason(code=ReasonCode.NO_CAPACITY, text=text, nodes=nodes)
