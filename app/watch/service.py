"""One look at everything that is measured, and what follows from it: quarantines, findings,
events."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app import signals
from app.allocations.states import LIVE_STATES
from app.clock import milliseconds
from app.db.samples.looks import Looks
from app.db.samples.tables import Kind
from app.db.tables import Allocation, Device, Event, Node
from app.deps import Context
from app.events.service import EventKind, record
from app.findings import Finding, FindingKind, Findings
from app.metrics.live import LATEST_WINDOW_MS, Live
from app.nodes.states import NodeState
from app.quarantine import service as quarantines
from app.quarantine.rules import Code, Thresholds, Verdict
from app.turns import in_turns
from app.watch.devices import DeviceWatch, Watched
from app.watch.tasks import Activity, Patience, TaskWatch
from app.watch.world import Held, HoldingNode, World, world_now

_EVENT_OF = {
    FindingKind.HELD_BUT_IDLE: EventKind.TASK_HELD_BUT_IDLE,
    FindingKind.GONE_IDLE: EventKind.TASK_GONE_IDLE,
}


class Watcher:
    """Looks now and then. What it says of tasks is told once each time that it changes."""

    def __init__(self, ctx: Context, live: Live, looks: Looks, findings: Findings) -> None:
        settings = ctx.settings
        self._ctx = ctx
        self._live = live
        self._findings = findings
        self._started_ms = milliseconds(ctx.clock.now())
        self._devices = DeviceWatch(
            live,
            looks,
            Thresholds(
                busy_percent=settings.busy_percent,
                throttled_seconds=settings.throttled_seconds,
                throttled_clear_seconds=settings.throttled_clear_seconds,
                slow_seconds=settings.slow_seconds,
                slow_ratio=settings.slow_ratio,
                unmanaged_seconds=settings.unmanaged_seconds,
            ),
        )
        self._tasks = TaskWatch(
            live,
            looks,
            Patience(
                held_idle_seconds=settings.held_idle_seconds,
                gone_idle_seconds=settings.gone_idle_seconds,
            ),
        )
        self._told: dict[str, EventKind] | None = None
        """By task, the last that was told of its idleness; None: not read from the events yet."""
        self._silent_since: dict[str, datetime] = {}

    async def look(self) -> None:
        """Judge all devices and tasks by what is known of them now."""
        now_ms = milliseconds(self._ctx.clock.now())
        async with self._ctx.database.read() as session:
            world = await world_now(session)
            if self._told is None:
                self._told = await _last_told(session)
        if self._ctx.settings.quarantine_rules:
            verdicts = await self._devices.judge(world.watched, world.gangs.values(), now_ms=now_ms)
            if verdicts:
                await self._carry_out(verdicts)
        activities = await self._tasks.judge(world.replicas, now_ms=now_ms)
        await self._tell(world, activities)
        silent = await self._unknown(world, now_ms)
        self._findings.replace([*_idle_findings(world, activities), *silent])

    async def _carry_out(self, verdicts: Iterable[tuple[Watched, Verdict]]) -> None:
        changed = False
        in_order = sorted(verdicts, key=lambda pair: (*pair[0].place.key, pair[1].code))
        async with self._ctx.database.write() as session:
            for watched, verdict in in_order:
                place = watched.place
                if verdict.faulty:
                    _, begun = await quarantines.begin(
                        self._ctx, session, place, verdict.code, verdict.reason
                    )
                    changed |= begun
                    continue
                in_force = await quarantines.active(session, nodes=[place.node_id])
                for row in in_force.get(place.key, ()):
                    if row.code == verdict.code and row.by_rule:
                        changed |= await quarantines.end(
                            self._ctx, session, row, place, verdict.reason
                        )
        if changed:
            self._ctx.signals.notify(signals.PLANNING, signals.EVENTS)

    async def _tell(self, world: World, activities: Mapping[str, Activity]) -> None:
        told = self._told or {}
        news: dict[str, tuple[EventKind, str]] = {}
        for task, activity in activities.items():
            if activity.idle is not None:
                kind = _EVENT_OF[activity.idle.kind]
                if told.get(task) is not kind:
                    news[task] = kind, activity.idle.text
            elif activity.works and task in told:
                news[task] = EventKind.TASK_WORKS_AGAIN, "its processes work on its GPUs again"
        self._told = {task: kind for task, kind in told.items() if task in activities}
        if not news:
            return
        names = {allocation.task: allocation.name for allocation in world.held}
        async with self._ctx.database.write() as session:
            for task, (kind, text) in news.items():
                record(
                    session,
                    at=self._ctx.clock.now(),
                    kind=kind,
                    task_id=task,
                    message=f"{names[task]}: {text}",
                )
        for task, (kind, _) in news.items():
            if kind is EventKind.TASK_WORKS_AGAIN:
                self._told.pop(task, None)
            else:
                self._told[task] = kind
        self._ctx.signals.notify(signals.EVENTS)

    async def _unknown(self, world: World, now_ms: int) -> list[Finding]:
        """Nodes that run tasks and of which nothing, or nothing of a held device, is measured."""
        runs: dict[int, list[Held]] = defaultdict(list)
        async for allocation in in_turns(world.held):
            if now_ms - allocation.assigned_ms > LATEST_WINDOW_MS:
                runs[allocation.node_id].append(allocation)
        silent: dict[str, str] = {}
        if now_ms - self._started_ms > LATEST_WINDOW_MS:
            async for node_id, held in in_turns(runs.items()):
                node = world.nodes[node_id]
                text = self._silence(node, held, now_ms)
                counts = node.state == NodeState.READY and not node.in_maintenance
                if text is not None and counts:
                    silent[node.name] = text
        now = self._ctx.clock.now()
        self._silent_since = {name: self._silent_since.get(name, now) for name in silent}
        return [
            Finding(kind=FindingKind.UNKNOWN, node=name, since=self._silent_since[name], text=text)
            for name, text in silent.items()
        ]

    def _silence(self, node: HoldingNode, runs: Collection[Held], now_ms: int) -> str | None:
        tasks = len({allocation.task for allocation in runs})
        of = f"runs {tasks} task{'' if tasks == 1 else 's'}"
        if self._live.reading(Kind.HOST, node.name, node.name, now_ms=now_ms) is None:
            return f"{of} and sends no measurements: what they use is unknown"
        held = {uuid for allocation in runs for uuid in allocation.devices}
        dark = [
            index
            for uuid, index in node.real_devices.items()
            if uuid in held
            and self._live.reading(Kind.DEVICE, node.name, uuid, now_ms=now_ms) is None
        ]
        if not dark:
            return None
        gpus = ", ".join(f"GPU {index}" for index in dark)
        return f"{of} and sends no measurements of {gpus}: whether they work is unknown"


async def unhealthy(session: AsyncSession) -> list[Finding]:
    """Devices that take no new task now: of the quarantines, and of the nodes' own word."""
    found = []
    in_force = await quarantines.active(session)
    rows = await session.execute(
        select(Device, Node.name).join(Node, Node.id == Device.node_id).order_by(Node.name)
    )
    for device, node in rows:
        for row in in_force.get((device.node_id, device.uuid), ()):
            is_strangers = row.code == Code.UNMANAGED
            found.append(
                Finding(
                    kind=FindingKind.UNMANAGED if is_strangers else FindingKind.UNHEALTHY,
                    since=row.since,
                    node=node,
                    device=device.uuid,
                    text=row.reason,
                )
            )
        if not device.healthy:
            found.append(
                Finding(
                    kind=FindingKind.UNHEALTHY,
                    node=node,
                    device=device.uuid,
                    text=device.fault or "the node says so",
                )
            )
    return found


def _idle_findings(world: World, activities: Mapping[str, Activity]) -> Iterable[Finding]:
    for task, activity in activities.items():
        if activity.idle is not None:
            nodes = {replica.node for replica in world.replicas[task]}
            yield Finding(
                kind=activity.idle.kind,
                since=datetime.fromtimestamp(activity.idle.since_ms / 1000, UTC),
                task=task,
                node=nodes.pop() if len(nodes) == 1 else None,
                gpu_hours=activity.idle.gpu_hours,
                text=activity.idle.text,
            )


async def _last_told(session: AsyncSession) -> dict[str, EventKind]:
    """By task that holds something, the idleness that an earlier run told of last."""
    kinds = (*_EVENT_OF.values(), EventKind.TASK_WORKS_AGAIN)
    rows = await session.execute(
        select(Event.task_id, Event.kind)
        .where(
            Event.task_id.in_(select(Allocation.task_id).where(Allocation.state.in_(LIVE_STATES))),
            Event.kind.in_(kinds),
        )
        .order_by(Event.id)
    )
    last = {row.task_id: EventKind(row.kind) for row in rows}
    return {task: kind for task, kind in last.items() if kind is not EventKind.TASK_WORKS_AGAIN}
