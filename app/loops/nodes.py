"""Watches the nodes' silence: first they get no new tasks, then their tasks are placed
elsewhere."""

import math
from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app import signals
from app.allocations.states import LIVE_STATES
from app.db.tables import Allocation, Node
from app.deps import Context
from app.events.service import EventKind, record
from app.leases import losing
from app.nodes.states import NodeState, Patience, fenced_after_seconds, state_after

_NEVER = "nodes-loop"  # nobody gives news of silence
_NODES = Node.metadata.tables[Node.__tablename__]
_HOLDING = (
    select(Allocation.node_id)
    .join(Node)
    .where(Node.state == NodeState.LOST, Allocation.state.in_(LIVE_STATES))
    .distinct()
)
"""Lost nodes with tasks that may still be on them."""


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
            holding = set(await session.scalars(_HOLDING))
        now = self._ctx.clock.monotonic()
        await self._flush_last_seen(now)
        silent = [
            node.id
            for node in nodes
            if (node.state != NodeState.LOST or node.id in holding)
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
        held: dict[int, list[Allocation]] = defaultdict(list)
        for row in await losing.held_by(session, silent):
            held[row.node_id].append(row)
        topics: set[str] = set()
        for node in await session.scalars(select(Node).where(Node.id.in_(silent))):
            silence = self._ctx.heartbeats.silence_seconds(node.id, now)
            topics |= await self._judge_node(session, node, held[node.id], silence)
        return topics

    async def _judge_node(
        self, session: AsyncSession, node: Node, held: list[Allocation], silence: float
    ) -> set[str]:
        ctx = self._ctx
        over_after = {row.id: losing.over_after_seconds(row, ctx.settings) for row in held}
        known = [seconds for seconds in over_after.values() if seconds is not None]
        due = [row for row in held if (after := over_after[row.id]) and silence >= after]
        topics = await losing.lose(ctx, session, node, due, f"node {node.name} was lost")
        state = state_after(silence, self._patience(known))
        if state is NodeState.READY or node.state in {NodeState.LOST, state}:
            return topics
        if state is NodeState.LOST:
            kept = len({row.task_id for row in held if over_after[row.id] is None})
            runs_on = f", but for {kept} that it is to keep" if kept else ""
            said = f"its lease has run out; it has stopped its tasks by itself{runs_on}"
            return topics | losing.mark_lost(ctx, session, node, said)
        node.state = NodeState.UNREACHABLE
        if node.maintenance_since is None:
            record(
                session,
                at=ctx.clock.now(),
                kind=EventKind.NODE_UNREACHABLE,
                node=node.name,
                message=f"silent for {silence:.0f} s: gets no new task, keeps what it runs",
            )
        return topics | {signals.PLANNING, signals.EVENTS}

    def _patience(self, over_after: Sequence[float]) -> Patience:
        """A node is lost when its lease has run out and with it every task that it ends by
        itself."""
        settings = self._ctx.settings
        lease_over = fenced_after_seconds(
            lease_seconds=settings.lease_seconds,
            stop_seconds=0.0,
            margin_seconds=settings.lease_margin_seconds,
        )
        return Patience(
            unreachable_after_seconds=self._unreachable_after_seconds,
            lost_after_seconds=max(lease_over, self._unreachable_after_seconds, *over_after),
        )
