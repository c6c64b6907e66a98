"""Quarantines: begun, ended, looked at. Never commits: the caller owns the transaction.

A device may be under several at once, one a code: it takes tasks again when the last has ended.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.tables import Device, Node, Quarantine
from app.deps import Context
from app.errors import NotFoundError
from app.events.service import EventKind, record
from app.quarantine.rules import Code, xid_fault
from telemetry.samples import DeviceEvent, DeviceEventKind

DeviceKey = tuple[int, str]
"""A node's row id and a device's UUID."""

_REPEATS_MAX = 2
_REPEATS_WITHIN = timedelta(days=1)
"""What came back this often so soon isn't over: the next time a person ends it."""
_REASON_MAX = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A device of a node, as people speak of it."""

    node_id: int
    node: str
    uuid: str
    index: int | None

    @property
    def key(self) -> DeviceKey:
        return self.node_id, self.uuid

    @property
    def name(self) -> str:
        return f"GPU {self.uuid if self.index is None else self.index}"


async def keys(session: AsyncSession) -> frozenset[DeviceKey]:
    """The devices that take no new task: one query, for planning."""
    rows = await session.execute(
        select(Quarantine.node_id, Quarantine.uuid).where(Quarantine.released_at.is_(None))
    )
    return frozenset((row.node_id, row.uuid) for row in rows)


async def active(
    session: AsyncSession, *, nodes: Collection[int] | None = None
) -> Mapping[DeviceKey, Sequence[Quarantine]]:
    """What is in force, oldest first, of these nodes or of all."""
    query = select(Quarantine).where(Quarantine.released_at.is_(None)).order_by(Quarantine.id)
    if nodes is not None:
        query = query.where(Quarantine.node_id.in_(nodes))
    found: dict[DeviceKey, list[Quarantine]] = defaultdict(list)
    for row in await session.scalars(query):
        found[row.node_id, row.uuid].append(row)
    return found


def in_words(rows: Sequence[Quarantine]) -> str | None:
    """Why a device takes no new task; None when it does."""
    if not rows:
        return None
    return "quarantined: " + "; ".join(row.reason for row in rows)


async def page(
    session: AsyncSession, *, before: int | None, limit: int, everything: bool
) -> Sequence[tuple[Quarantine, Place, Device | None]]:
    """Newest first, each with its device's row, while the node still has that."""
    query = (
        select(Quarantine, Node.name, Device)
        .join(Node, Node.id == Quarantine.node_id)
        .outerjoin(
            Device,
            (Device.node_id == Quarantine.node_id) & (Device.uuid == Quarantine.uuid),
        )
        .order_by(Quarantine.id.desc())
        .limit(limit)
    )
    if not everything:
        query = query.where(Quarantine.released_at.is_(None))
    if before is not None:
        query = query.where(Quarantine.id < before)
    return [
        (
            row,
            Place(
                node_id=row.node_id,
                node=name,
                uuid=row.uuid,
                index=None if device is None else device.index,
            ),
            device,
        )
        for row, name, device in await session.execute(query)
    ]


async def get(session: AsyncSession, quarantine_id: int) -> tuple[Quarantine, Place, Device | None]:
    """One quarantine with its device.

    Raises:
        NotFoundError: there is none of this id.
    """
    for found in await page(session, before=quarantine_id + 1, limit=1, everything=True):
        if found[0].id == quarantine_id:
            return found
    raise NotFoundError(f"no quarantine has the id {quarantine_id}: see stowplan quarantines --all")


async def find_device(session: AsyncSession, node: str, device: str) -> Place:
    """A device by its index or its UUID.

    Raises:
        NotFoundError: the node, or that device of it, isn't known.
    """
    node_id = await session.scalar(select(Node.id).where(Node.name == node))
    if node_id is None:
        raise NotFoundError(f"no node is named {node!r}: see stowplan nodes")
    for row in await session.scalars(select(Device).where(Device.node_id == node_id)):
        if device in {row.uuid, str(row.index)}:
            return Place(node_id=node_id, node=node, uuid=row.uuid, index=row.index)
    raise NotFoundError(
        f"node {node!r} has no GPU of index or UUID {device!r}: see stowplan nodes -o json"
    )


async def begin(
    ctx: Context, session: AsyncSession, place: Place, code: Code, reason: str
) -> tuple[Quarantine, bool]:
    """Give a device no new task. One of this code that is in force is answered as it is, with
    False."""
    # Whoever begins or ends one holds the node's row: two at once would both see none.
    await session.execute(select(Node.id).where(Node.id == place.node_id).with_for_update())
    same = (
        Quarantine.node_id == place.node_id,
        Quarantine.uuid == place.uuid,
        Quarantine.code == code,
    )
    known = await session.scalar(select(Quarantine).where(*same, Quarantine.released_at.is_(None)))
    if known is not None:
        return known, False
    now = ctx.clock.now()
    by_rule = code.ended_by_rule
    if by_rule and code is not Code.UNMANAGED:  # that is no weakness of the device's
        lately = await session.scalar(
            select(func.count())
            .select_from(Quarantine)
            .where(*same, Quarantine.by_rule, Quarantine.released_at >= now - _REPEATS_WITHIN)
        )
        by_rule = (lately or 0) < _REPEATS_MAX
    row = Quarantine(
        node_id=place.node_id,
        uuid=place.uuid,
        code=code.value,
        reason=reason[:_REASON_MAX],
        by_rule=by_rule,
        since=now,
        release_reason="",
    )
    session.add(row)
    record(
        session,
        at=now,
        kind=EventKind.DEVICE_QUARANTINED,
        node=place.node,
        message=f"{place.name} takes no new task ({code}): {row.reason}",
    )
    await session.flush()
    return row, True


async def end(
    ctx: Context, session: AsyncSession, row: Quarantine, place: Place, reason: str
) -> bool:
    """End a quarantine; False when it had ended before."""
    await session.execute(select(Node.id).where(Node.id == place.node_id).with_for_update())
    await session.refresh(row)
    if row.released_at is not None:
        return False
    now = ctx.clock.now()
    row.released_at = now
    row.release_reason = reason[:_REASON_MAX]
    others = await session.scalar(
        select(func.count())
        .select_from(Quarantine)
        .where(
            Quarantine.node_id == row.node_id,
            Quarantine.uuid == row.uuid,
            Quarantine.released_at.is_(None),
            Quarantine.id != row.id,
        )
    )
    rest = "stays quarantined for other reasons" if others else "takes new tasks again"
    record(
        session,
        at=now,
        kind=EventKind.DEVICE_RELEASED,
        node=place.node,
        message=f"{place.name} {rest} ({row.code} ended): {row.release_reason}",
    )
    await session.flush()
    return True


async def last_releases(session: AsyncSession) -> Mapping[tuple[int, str, Code], datetime]:
    """When each device was last released from each code: evidence from before has been judged."""
    rows = await session.execute(
        select(
            Quarantine.node_id,
            Quarantine.uuid,
            Quarantine.code,
            func.max(Quarantine.released_at, type_=Quarantine.released_at.type).label("at"),
        )
        .where(Quarantine.released_at.is_not(None))
        .group_by(Quarantine.node_id, Quarantine.uuid, Quarantine.code)
    )
    return {(row.node_id, row.uuid, Code(row.code)): row.at for row in rows}


async def note_events(
    ctx: Context, session: AsyncSession, node: Node, events: Sequence[DeviceEvent]
) -> bool:
    """What a node's own events mean for its devices; whether anything changed.

    An Xid of the hardware's begins a quarantine, and the node's word that the device has recovered
    (it was reset, and answers again) ends that one: should it fall again and again, a person does.
    """
    index = {device.uuid: device.index for device in node.devices}
    rules_may = ctx.settings.quarantine_rules
    changed = False
    for event in events:
        if event.uuid is None or event.uuid not in index:
            continue
        place = Place(node_id=node.id, node=node.name, uuid=event.uuid, index=index[event.uuid])
        if event.kind is DeviceEventKind.XID and event.code is not None and rules_may:
            fault = xid_fault(event.code, event.message)
            if fault is not None:
                _, begun = await begin(ctx, session, place, Code.XID, fault)
                changed |= begun
        elif event.kind is DeviceEventKind.RECOVERED:
            for row in (await active(session, nodes=[node.id])).get(place.key, ()):
                if row.code == Code.XID and row.by_rule:
                    said = event.message or "the node reports that it has recovered"
                    changed |= await end(ctx, session, row, place, said)
    return changed
