"""Rows to a placement problem: one immutable look at the cluster, as it will be once what leaves
has left.

A task is in the problem where it runs, or where room is kept for it. One that is being stopped
counts as gone already: whoever is to have its room has it reserved until then (app.planning.room).
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import selectinload

from app.db.tables import Allocation, Node, Task
from app.deps import Context
from app.nodes.states import NodeState
from app.planning.bands import Ranking, models_left, of_model, rank
from app.planning.costs import stop_cost, work_of
from app.planning.policy import BOOKING_LABEL, Policy, lead, read
from app.progress import ProgressBoard
from app.quarantine import service as quarantines
from app.quarantine.service import DeviceKey
from app.tasks import service as tasks
from app.tasks.states import TaskState
from protocol.task import TaskSpec
from solver.problem import Budget, Device, Problem, Request, Slot
from solver.problem import Node as ProblemNode
from solver.problem import Task as ProblemTask
from solver.replay import json_bytes

OVERDUE_SECONDS = 90.0
"""Beyond the longest that a task's stop may take: killing what doesn't end, and until its devices
are free or given up as held. Then its room doesn't count as about to be free any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When the look was taken, and what else it's judged by than rows."""

    now: datetime
    progress: ProgressBoard
    preempt_after_seconds: float
    policy: Policy = field(default_factory=Policy)

    def seconds_until(self, moment: datetime) -> float:
        return (moment - self.now).total_seconds()


class Snapshot:
    """What planning knows at one moment, and the problem that it poses."""

    def __init__(
        self,
        moment: Moment,
        nodes: Sequence[Node],
        unfinished: Sequence[Task],
        budget: Budget,
        quarantined: frozenset[DeviceKey] = frozenset(),
    ) -> None:
        self.moment = moment
        self.nodes = {node.name: node for node in nodes}
        self.tasks = {task.id: task for task in unfinished}
        self.specs = {
            task.id: TaskSpec.model_validate(task.spec, strict=False) for task in unfinished
        }
        self._names = {node.id: node.name for node in nodes}
        self._changes: list[datetime] = []
        self._moves = budget.max_moves != 0
        self.reserved = {
            task.id: reserved_slots(task)
            for task in unfinished
            if task.reserved and not task.cancelled
        }
        """Where room is kept for whom, in the solver's words; it may be there no more."""
        self.pending = {task.id: task for task in unfinished if self._waits(task)}
        self.leaving = {
            task.id: task for task in unfinished if tasks.live(task) and self._leaves(task)
        }
        """What is being stopped: its room is taken still, and soon free."""
        problem_nodes = tuple(
            _node(node, quarantined, moment.policy if moment.policy.bookings else None)
            for node in nodes
        )
        places = {node.id: {device.id for device in node.devices} for node in problem_nodes}
        self.kept = {
            task: slots
            for task, slots in self.reserved.items()
            if all(
                slot.node in places and places[slot.node].issuperset(slot.devices) for slot in slots
            )
            and (task in self.leaving or not tasks.live(self.tasks[task]))
        }
        """Of those, the ones that can still be had: they're in the problem."""
        planned = [
            task
            for task in unfinished
            if task.id in self.pending
            or task.id in self.kept
            or (tasks.live(task) and task.id not in self.leaving)
        ]
        self._known = {task.id for task in planned}
        self._lose_all: set[str] = set()
        wanted = [self._task(task, self.kept.get(task.id)) for task in planned]
        self.ranking: Ranking = rank(
            problem_nodes, wanted, moment.policy.queues, moment.policy.usage
        )
        self.models = models_left(problem_nodes, wanted, self.ranking.tree)
        """Who waits and is kept from models of GPU by its queue's limits."""
        self.levels = {task.id: self.ranking.level(task) for task in wanted}
        """A task's level in the problem; its priority alone where only one queue has tasks."""
        highest = max((self.levels[task] for task in self.pending), default=None)
        self.problem = Problem(
            version=1,
            nodes=problem_nodes,
            tasks=tuple(
                self._ranked(task, highest)
                for task in wanted
                if (left := self.models.get(task.id)) is None or left.may
            ),
            queues=tuple(
                replace(queue, guaranteed={}, limit=_known_to_the_solver(queue.limit))
                for queue in self.ranking.tree.queues.values()
            ),
            budget=budget,
        )

    def _ranked(self, task: ProblemTask, highest: int | None) -> ProblemTask:
        """The task at its level, and with what its queue's limits leave of its wishes."""
        level = self.levels[task.id]
        if task.id in self._lose_all and (highest is None or highest <= level):
            # All of somebody's work is never thrown away for a task of the same level.
            row = self.tasks[task.id]
            task = self._fact(row, self.specs[task.id], tasks.live(row))
        left = self.models.get(task.id)
        return replace(task, priority=level, gpu_models=left.may if left else task.gpu_models)

    @cached_property
    def question(self) -> str:
        """A digest of what is asked, whatever it costs: costs change all the time, and only choose
        between answers that place as much."""
        asked = (
            self.problem.nodes,
            [replace(task, move_cost=1, evict_cost=1) for task in self.problem.tasks],
            self.problem.queues,
            self.problem.budget,
        )
        return hashlib.sha256(json_bytes(asked)).hexdigest()

    @property
    def changes_in_seconds(self) -> float | None:
        """After which time alone makes it another question; None: never."""
        seconds = [self.moment.seconds_until(change) for change in self._changes]
        return min(seconds, default=None)

    def level(self, task: Task) -> int:
        """How urgent it is: among tasks of several queues, its claim comes first."""
        return self.levels.get(task.id, task.priority)

    def most_urgent(self, task: Task) -> tuple[int, str]:
        """A key to sort by."""
        return -self.level(task), task.id

    def where_it_is(self, task: Task) -> ProblemTask:
        """What the task holds now, however long still."""
        spec = self.specs[task.id]
        return replace(self._fact(task, spec, tasks.live(task)), separate_from=spec.separate_from)

    def wish(self, task: Task) -> ProblemTask:
        """What the task asks for."""
        spec = self.specs[task.id]
        return replace(self._wish(task, spec), separate_from=spec.separate_from)

    def _waits(self, task: Task) -> bool:
        """A new attempt waits until everything that the last one held is free again."""
        if task.state != TaskState.PENDING or task.cancelled or task.id in self.reserved:
            return False
        if tasks.live(task):
            return False
        return not self._is_ahead(task.not_before)

    def _leaves(self, task: Task) -> bool:
        if task.state != TaskState.STOPPING or task.stop_ordered_at is None:
            return False
        longest = timedelta(seconds=self.specs[task.id].stop_seconds_max + OVERDUE_SECONDS)
        return self._is_ahead(task.stop_ordered_at + longest)

    def _is_ahead(self, change: datetime | None) -> bool:
        """Whether this is yet to come. If so, it's noted as a change to come."""
        if change is None or change <= self.moment.now:
            return False
        self._changes.append(change)
        return True

    def _task(self, task: Task, reserved: tuple[Slot, ...] | None) -> ProblemTask:
        spec = self.specs[task.id]
        if reserved is not None:
            # Nothing is lost where a task doesn't run yet, so its room may be changed for another.
            whole = replace(self._wish(task, spec), replicas=len(reserved), min_replicas=None)
            return replace(whole, preemptible=True, placed=reserved)
        held = tasks.live(task)
        if not held:
            return self._wish(task, spec)
        cost = self._stop_cost(task, spec, held)
        if cost is None:
            return self._fact(task, spec, held)
        return replace(
            self._wish(task, spec),
            replicas=len(held),
            min_replicas=None,
            placed=self._slots(held),
            move_cost=cost,
            evict_cost=cost,
            duration_seconds=None,
        )

    def _stop_cost(self, task: Task, spec: TaskSpec, held: Sequence[Allocation]) -> int | None:
        """Of what runs; None where no plan may touch it."""
        if not self._moves or not spec.preemptible:
            return None
        if task.state not in {TaskState.STARTING, TaskState.RUNNING}:
            return None
        if len(held) < len(tasks.current(task)):
            return None  # it's about to end: some of its replicas have
        if any(self.nodes[place].state != NodeState.READY for place in self._places(held)):
            return None  # the order wouldn't arrive
        if task.state == TaskState.STARTING:
            return 1
        if task.started_at is not None and self._is_ahead(
            task.started_at + timedelta(seconds=self._min_runtime_seconds(task.queue))
        ):
            return None
        work = work_of(spec, task.started_at, held, self.moment.progress, self.moment.now)
        if work.is_lost_whole:
            self._lose_all.add(task.id)
        return stop_cost(work)

    def _min_runtime_seconds(self, queue: str) -> float:
        """Of the queue, or else the service's."""
        own = self.moment.policy.min_runtime_seconds
        return own.get(queue, self.moment.preempt_after_seconds)

    def _fact(self, task: Task, spec: TaskSpec, held: Sequence[Allocation]) -> ProblemTask:
        # What runs is a fact, not a wish: its remaining replicas, where they are, with no topology
        # to fulfil again (a gang whose ranks end one by one would otherwise break its own spread).
        return ProblemTask(
            id=task.id,
            queue=task.queue,
            priority=task.priority,
            replicas=len(held),
            request=_request(spec),
            separate_from=self._separate_from(spec),
            preemptible=False,
            placed=self._slots(held),
        )

    def _wish(self, task: Task, spec: TaskSpec) -> ProblemTask:
        return ProblemTask(
            id=task.id,
            queue=task.queue,
            priority=task.priority,
            replicas=spec.replicas,
            min_replicas=spec.min_replicas,
            request=_request(spec),
            gpu_models=spec.gpu_models,
            node_selector=self._selector(task, spec),
            pack_within=spec.pack_within,
            spread_over=spec.spread_over,
            separate_from=self._separate_from(spec),
            preemptible=spec.preemptible,
            duration_seconds=spec.duration_seconds,
        )

    def _selector(self, task: Task, spec: TaskSpec) -> dict[str, tuple[str, ...]]:
        """Which nodes it may go to, also for the sake of bookings."""
        policy, now = self.moment.policy, self.moment.now
        if not policy.bookings:
            return spec.selector
        for booking in policy.bookings:
            before = booking.starts_at - lead(spec.stop_seconds_max)
            for change in (before, booking.starts_at, booking.ends_at):
                self._is_ahead(change)
        may_use = policy.may_use(task.queue, spec, now)
        values = {policy.booked(node) for node in self.nodes}
        beside = tuple(sorted(v for v in values if not v or may_use.issuperset(v.split(","))))
        return {**spec.selector, BOOKING_LABEL: beside}

    def _separate_from(self, spec: TaskSpec) -> tuple[str, ...]:
        return tuple(other for other in spec.separate_from if other in self._known)

    def _places(self, held: Iterable[Allocation]) -> set[str]:
        return {self._names[allocation.node_id] for allocation in held}

    def _slots(self, held: Iterable[Allocation]) -> tuple[Slot, ...]:
        return tuple(Slot(node=self._names[a.node_id], devices=tuple(a.devices)) for a in held)


def reserved_slots(task: Task) -> tuple[Slot, ...]:
    """The room that is kept for a task, as it's written on its row."""
    return tuple(
        Slot(node=slot["node"], devices=tuple(slot["devices"])) for slot in task.reserved or ()
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What a snapshot is made of."""

    nodes: Sequence[Node]
    unfinished: Sequence[Task]
    quarantined: frozenset[DeviceKey]
    moment: Moment


async def read_rows(ctx: Context, session: AsyncSession) -> Rows:
    nodes = select(Node).options(selectinload(Node.devices)).order_by(Node.name)
    return Rows(
        nodes=(await session.scalars(nodes)).all(),
        unfinished=await tasks.unfinished(session),
        quarantined=await quarantines.keys(session),
        moment=Moment(
            now=ctx.clock.now(),
            progress=ctx.progress,
            preempt_after_seconds=ctx.settings.preempt_after_seconds,
            policy=await read(ctx, session),
        ),
    )


async def take(ctx: Context, session: AsyncSession, budget: Budget) -> Snapshot:
    rows = await read_rows(ctx, session)
    return Snapshot(rows.moment, rows.nodes, rows.unfinished, budget, rows.quarantined)


def _request(spec: TaskSpec) -> Request:
    return Request(**spec.request.model_dump())


def _known_to_the_solver(limit: Mapping[str, int]) -> dict[str, int]:
    return {d: quantity for d, quantity in limit.items() if of_model(d) is None}


def _node(node: Node, quarantined: frozenset[DeviceKey], booked: Policy | None) -> ProblemNode:
    uuids = {device.uuid for device in node.devices}
    return ProblemNode(
        id=node.name,
        cpu_milli=node.cpu_milli,
        memory_mib=node.memory_mib,
        disk_mib=node.disk_mib,
        network_mbps=node.network_mbps,
        schedulable=node.schedulable and node.state == NodeState.READY,
        labels=node.labels
        if booked is None
        else {**node.labels, BOOKING_LABEL: booked.booked(node.name)},
        domains={domain: value for domain, value in node.domains.items() if domain != "node"},
        devices=tuple(
            Device(
                id=device.uuid,
                model=device.model,
                memory_mib=device.memory_mib,
                numa=device.numa,
                healthy=device.healthy and (node.id, device.uuid) not in quarantined,
                links={peer: kind for peer, kind in device.links.items() if peer in uuids},
            )
            for device in node.devices
        ),
    )
