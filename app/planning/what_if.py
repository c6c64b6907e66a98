"""What if: the cluster as it is and with changes, by the same time plan.

It reads in one transaction and writes nothing: the rows are taken out of their session, and what is
new is never put into one.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from app.db.tables import Device, Node, Task
from app.deps import Context
from app.durations import history
from app.errors import Fault, InvalidInputError
from app.nodes.states import NodeState
from app.planning.eta_schemas import AddNodes, NodeForm, QueueChange, Simulation
from app.planning.policy import Policy
from app.planning.snapshot import Moment, Snapshot, read_rows
from app.planning.solving import Solver
from app.planning.timing import answered, question
from app.quarantine.service import DeviceKey
from app.queues import rules
from app.tasks import service as tasks
from app.tasks.admission import admission_faults
from app.tasks.states import TaskState
from protocol.task import TaskSpec
from solver.errors import InvalidProblem
from solver.problem import Budget, Queue
from solver.scheduling.timeplan import FRACTIONS, Start, TimePlan, TimeQuestion

NEW = "new-"
"""What the names of new tasks and of more nodes like one begin with. The service's own ids never
do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _World:
    """Rows that belong to no session any more."""

    nodes: Sequence[Node]
    unfinished: Sequence[Task]
    quarantined: frozenset[DeviceKey]
    moment: Moment
    carried: dict[str, float]

    def snapshot(self) -> Snapshot:
        budget = Budget(max_moves=0)
        return Snapshot(self.moment, self.nodes, self.unfinished, budget, self.quarantined)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Both time plans, with what was asked for each."""

    as_of: datetime
    before: TimePlan
    after: TimePlan
    asked: TimeQuestion
    """The changed one."""
    names: dict[str, str]
    """Of all tasks, by id."""
    ran: frozenset[str]
    """Tasks that ran before."""


async def compare(ctx: Context, solver: Solver, form: Simulation) -> Comparison:
    """Who starts when, as it is and with the changes. Raises InvalidInputError with every fault."""
    async with ctx.database.read() as session:
        world = await _look(ctx, session)
        faults = [*_faults(form, world), *await _task_faults(ctx, session, form)]
        session.expunge_all()
    if faults:
        raise InvalidInputError(
            f"{len(faults)} fault(s) in the changes; nothing was reckoned", faults=tuple(faults)
        )
    model = ctx.durations.model
    try:
        # Objects of the database's library stay in this thread: it's quick beside the draws.
        as_it_is, changed = world.snapshot(), _changed(world, form).snapshot()
        before = question(as_it_is, model, world.carried)
        asked = _without_nodes(question(changed, model, world.carried), changed, form)
    except InvalidProblem as error:
        raise InvalidInputError(
            f"{len(error.faults)} fault(s) in the changes; nothing was reckoned",
            faults=tuple(
                Fault(path=fault.path, value=fault.value, reason=fault.reason)
                for fault in error.faults
            ),
        ) from error
    return Comparison(
        as_of=world.moment.now,
        before=await answered(solver, before),
        after=await answered(solver, asked),
        asked=asked,
        names={row.id: row.name for row in (*as_it_is.tasks.values(), *changed.tasks.values())},
        ran=frozenset(task.id for task in before.running),
    )


async def _look(ctx: Context, session: AsyncSession) -> _World:
    rows = await read_rows(ctx, session)
    return _World(
        nodes=rows.nodes,
        unfinished=rows.unfinished,
        quarantined=rows.quarantined,
        moment=rows.moment,
        carried=await history.carried_seconds(session),
    )


def _faults(form: Simulation, world: _World) -> Iterator[Fault]:
    nodes = {node.name for node in world.nodes}
    known = {task.id for task in world.unfinished}
    for i, task in enumerate(form.cancel):
        if task not in known:
            yield Fault(path=f"cancel[{i}]", value=task, reason="no unfinished task has this id")
    for i, name in enumerate(form.remove_nodes):
        if name not in nodes:
            yield Fault(path=f"remove_nodes[{i}]", value=name, reason="no node has this name")
    taken = set(nodes)
    for i, more in enumerate(form.add_nodes):
        path = f"add_nodes[{i}]"
        if more.like is not None and more.like not in nodes:
            yield Fault(path=f"{path}.like", value=more.like, reason="no node has this name")
        if more.node is not None:
            if more.node.name in taken:
                reason = "there is a node of this name already"
                yield Fault(path=f"{path}.node.name", value=more.node.name, reason=reason)
            taken.add(more.node.name)
    yield from _queue_faults(form, world.moment.policy)


def _queue_faults(form: Simulation, policy: Policy) -> Iterator[Fault]:
    known = {queue.id for queue in policy.queues} | {change.name for change in form.queues}
    seen: set[str] = set()
    for i, change in enumerate(form.queues):
        path = f"queues[{i}]"
        if change.name in seen:
            yield Fault(path=f"{path}.name", value=change.name, reason="is changed twice")
        seen.add(change.name)
        if change.parent is not None and change.parent not in known:
            yield Fault(path=f"{path}.parent", value=change.parent, reason="no queue has this name")
        for field in ("guaranteed", "limit"):
            for dimension in getattr(change, field) or {}:
                is_of_model = dimension.startswith(rules.OF_MODEL)
                if dimension not in rules.DIMENSIONS and not is_of_model:
                    words = ", ".join((*rules.DIMENSIONS, rules.OF_MODEL + "MODEL"))
                    reason = f"is none of {words}"
                    yield Fault(path=f"{path}.{field}.{dimension}", value=dimension, reason=reason)


async def _task_faults(ctx: Context, session: AsyncSession, form: Simulation) -> list[Fault]:
    """As a submission would be refused, but for what the changes may mend."""
    found = []
    queues = {change.name for change in form.queues}
    for i, spec in enumerate(form.tasks):
        for fault in await admission_faults(ctx, session, spec):
            if fault.path == "queue" and spec.queue in queues:
                continue
            if form.add_nodes and fault.path in {"replicas", "min_replicas"}:
                continue
            path = f"tasks[{i}].{fault.path}"
            found.append(Fault(path=path, value=fault.value, reason=fault.reason))
    return found


def _changed(world: _World, form: Simulation) -> _World:
    """The world with the changes, but for the nodes that go: who runs there is a question of its
    own."""
    gone = set(form.cancel)
    more = [node for one in form.add_nodes for node in _more_nodes(world, one)]
    numbered = [_numbered(node, number) for number, node in enumerate(more)]
    new = [_task(spec, i, world.moment.now) for i, spec in enumerate(form.tasks)]
    return replace(
        world,
        nodes=(*world.nodes, *numbered),
        unfinished=(*(task for task in world.unfinished if task.id not in gone), *new),
        moment=replace(world.moment, policy=_policy(world.moment.policy, form.queues)),
    )


def _more_nodes(world: _World, more: AddNodes) -> Iterator[Node]:
    for number in range(more.count):
        if more.node is not None:
            suffix = f".{number}" if number else ""
            yield _described(more.node, more.node.name + suffix)
            continue
        model = next(node for node in world.nodes if node.name == more.like)
        devices = [
            Device(
                **_columns(device, Device, "id", "node_id", "healthy", "fault"),
                node_id=0,
                healthy=True,
                fault=None,
            )
            for device in model.devices
        ]
        yield Node(
            **_columns(model, Node, "id", "name", "state", "schedulable"),
            name=f"{NEW}{model.name}",
            state=NodeState.READY,
            schedulable=True,
            devices=devices,
        )


def _columns(row: Node | Device, table: type, *but: str) -> dict[str, object]:
    names = (column.key for column in table.__mapper__.column_attrs)
    return {name: getattr(row, name) for name in names if name not in but}


def _described(form: NodeForm, name: str) -> Node:
    return Node(
        name=name,
        state=NodeState.READY,
        schedulable=True,
        cpu_milli=form.cpu_milli,
        memory_mib=form.memory_mib,
        disk_mib=form.disk_mib,
        network_mbps=form.network_mbps,
        labels=form.labels,
        domains=form.domains,
        devices=[
            Device(
                uuid=f"gpu-{index}",
                index=index,
                model=form.gpu_model,
                memory_mib=form.gpu_memory_mib,
                numa=None,
                links={},
                healthy=True,
                simulated=False,
            )
            for index in range(form.gpus)
        ],
    )


def _numbered(node: Node, number: int) -> Node:
    """With an id that no row has; of several like one, with a name of its own."""
    node.id = -1 - number
    if node.name.startswith(NEW):
        node.name = f"{node.name}-{number}"
    return node


def _task(spec: TaskSpec, number: int, now: datetime) -> Task:
    return Task(
        id=f"{NEW}{number}",
        name=spec.name or tasks.name_from(spec.argv),
        kind=spec.kind.value,
        queue=spec.queue,
        priority=spec.priority,
        state=TaskState.PENDING,
        spec=json.loads(spec.model_dump_json()),
        generation=0,
        failures=0,
        cancelled=False,
        reason="",
        submitted_at=now,
        allocations=[],
    )


def _policy(policy: Policy, changes: Sequence[QueueChange]) -> Policy:
    queues = {queue.id: queue for queue in policy.queues}
    for change in changes:
        was = queues.get(change.name, Queue(id=change.name))
        given = {
            name: value
            for name in ("parent", "weight", "guaranteed", "limit")
            if (value := getattr(change, name)) is not None
        }
        queues[change.name] = replace(was, **given)
    return replace(policy, queues=tuple(queues.values()))


def _without_nodes(asked: TimeQuestion, changed: Snapshot, form: Simulation) -> TimeQuestion:
    """Without the nodes that go. Who ran on one of them waits again, and begins anew."""
    gone = set(form.remove_nodes)
    if not gone:
        return asked
    displaced = {
        task.id for task in asked.running if any(slot.node in gone for slot in task.placed)
    }
    problem = asked.problem
    kept = tuple(
        replace(changed.wish(changed.tasks[task.id]), priority=task.priority, separate_from=())
        if task.id in displaced
        else task
        for task in problem.tasks
    )
    nodes = tuple(node for node in problem.nodes if node.id not in gone)
    windows = (
        replace(window, nodes=tuple(node for node in window.nodes if node not in gone))
        for window in asked.windows
    )
    return replace(asked, problem=replace(problem, nodes=nodes, tasks=kept), windows=tuple(windows))


def affected(
    found: Comparison, same_seconds: float
) -> Iterator[tuple[str, Start | None, Start | None]]:
    """Tasks that start at another time: (task, before, after). Before None: it ran; after None: it
    isn't there any more."""
    before = {start.task: start for start in found.before.starts}
    after = {start.task: start for start in found.after.starts}
    for task, start in before.items():
        then = after.get(task)
        if then is None or not _is_same(start.p50_seconds, then.p50_seconds, same_seconds):
            yield task, start, then
    for task, start in after.items():
        if task not in before and not task.startswith(NEW):
            yield task, None, start


def _is_same(before: float | None, after: float | None, seconds: float) -> bool:
    if before is None or after is None:
        return before is after
    return abs(before - after) <= seconds


def cost(found: Comparison, start: Start, prices: Mapping[str, float]) -> float | None:
    """Of a task at its median duration, where it starts when everybody takes theirs. None: no
    price, no duration, or no such place."""
    seconds = found.asked.forecasts.get(start.task)
    if not prices or seconds is None or not start.slots:
        return None
    model = {
        (node.id, device.id): device.model
        for node in found.asked.problem.nodes
        for device in node.devices
    }
    task = next(task for task in found.asked.problem.tasks if task.id == start.task)
    models = [model[slot.node, device] for slot in start.slots for device in slot.devices]
    if any(one not in prices for one in models):
        return None
    middle = len(FRACTIONS) // 2
    hours = (seconds[middle - 1] + seconds[middle]) / 2 / 3600
    return sum(prices[one] for one in models) * hours * task.request.gpu_milli / 1000
