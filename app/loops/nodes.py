"""Watches the nodes' silence: first they get no new tasks, then their tasks are placed
elsewhere."""

import math
from collections import defaultdict
from datetime import timedelta

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app import signals
from app.allocations.states import LIVE_STATES
from app.db.tables import Allocation, Node, Task
from app.deps import Context
from app.events.service import EventKind, record
from app.leases.service import lose
from app.nodes.states import NodeState, Patience, state_after

_NEVER = "nodes-loop"  # nobody gives news of silence
_NODES = Node.metadata.tables[Node.__tablename__]
_KILL_SECONDS = 5.0
"""What an agent may need beyond the grace to kill everything that a task has started."""
_DRIFT = 1.01
"""Clocks that count the same lease may run one percent apart."""


class NodesLoop:
    name = "nodes"
    topic = _NEVER
    debounce_seconds = 0.0

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._flushed_at = 0.0

    async def tick(self) -> float:
        pause = self._unreachable_after_seconds / 4
        async with self._ctx.database.read() as session:
            nodes = (await session.execute(select(Node.id, Node.state))).all()
        now = self._ctx.clock.monotonic()
        await self._flush_last_seen(now)
        silent = [
            node.id
            for node in nodes
            if node.state != NodeState.LOST
            and self._ctx.heartbeats.silence_seconds(node.id, now)
            >= self._unreachable_after_seconds
        ]
        for node in nodes:
            if node.state != NodeState.READY:
                # Its next report is to be recorded, however little it says: it greets the node.
                self._ctx.quiet.forget(node.id)
        if silent:
            async with self._ctx.database.write() as session:
                topics = await self._judge(session, silent, now)
            for node_id in silent:
                self._ctx.quiet.forget(node_id)
            self._ctx.signals.notify(*topics)
        return pause

    @property
    def _unreachable_after_seconds(self) -> float:
        """In a large fleet nodes speak less often: not heard three times is silence."""
        interval_seconds = self._ctx.pace.report_interval_seconds
        return max(self._ctx.settings.unreachable_after_seconds, 3 * interval_seconds)

    async def _flush_last_seen(self, now: float) -> None:
        """When nodes were heard, for people: now and then, not with each report."""
        heard = self._ctx.heartbeats.heard_since(self._flushed_at)
        if not heard:
            return
        self._flushed_at = now
        wall = self._ctx.clock.now()
        # To the second: the nodes of one second are one statement, however many they are.
        nodes: dict[int, list[int]] = defaultdict(list)
        for node, at in heard.items():
            nodes[math.ceil(now - at)].append(node)
        async with self._ctx.database.write() as session:
            for seconds, ids in nodes.items():
                seen = wall - timedelta(seconds=seconds)
                await session.execute(
                    update(_NODES).where(_NODES.c.id.in_(ids)).values(last_seen_at=seen)
                )

    async def _judge(self, session: AsyncSession, silent: list[int], now: float) -> set[str]:
        topics: set[str] = set()
        for node in await session.scalars(select(Node).where(Node.id.in_(silent))):
            silence = self._ctx.heartbeats.silence_seconds(node.id, now)
            state = state_after(silence, await self._patience(session, node.id))
            if state == node.state:
                continue
            if state is NodeState.LOST:
                topics |= await lose(self._ctx, session, node)
            elif state is NodeState.UNREACHABLE:
                node.state = NodeState.UNREACHABLE
                record(
                    session,
                    at=self._ctx.clock.now(),
                    kind=EventKind.NODE_UNREACHABLE,
                    node=node.name,
                    message=f"silent for {silence:.0f} s: gets no new task, keeps what it runs",
                )
                topics |= {signals.PLANNING, signals.EVENTS}
        return topics

    async def _patience(self, session: AsyncSession, node_id: int) -> Patience:
        """Lease, then the longest grace that a task there may take, then what killing and clocks
        may need."""
        settings = self._ctx.settings
        held = await session.scalars(
            select(Task)
            .join(Allocation)
            .where(Allocation.node_id == node_id, Allocation.state.in_(LIVE_STATES))
        )
        grace = max((task.spec["grace_seconds"] for task in held), default=0.0)
        lost_after = (
            (settings.lease_seconds + grace) * _DRIFT
            + _KILL_SECONDS
            + settings.lease_margin_seconds
        )
        return Patience(
            unreachable_after_seconds=self._unreachable_after_seconds,
            lost_after_seconds=max(lost_after, self._unreachable_after_seconds),
        )
