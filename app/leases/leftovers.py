"""What a node couldn't be rid of, by its own word: processes that don't end, devices that aren't
free. It takes no new task there until that is over.
"""

from collections.abc import Iterable, Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app import signals
from app.db.tables import Allocation, Device, Node
from app.deps import Context
from app.nodes.service import cordon
from app.quarantine import service as quarantines
from app.quarantine.rules import Code
from app.quarantine.service import Place
from protocol.report import AllocationReport, AllocationState

_REBOOTED = "the node was rebooted"
_ENDED = "its processes have ended after all"


async def note_leftovers(
    ctx: Context,
    session: AsyncSession,
    node: Node,
    reports: Sequence[tuple[Allocation, AllocationReport]],
) -> set[str]:
    """Quarantine what isn't free, and cordon a node whose processes can't be killed. The reports
    are those of allocations that weren't over before. Gives whom to wake."""
    changed = False
    for row, report in reports:
        if report.unkillable:
            said = f": {report.note}" if report.note else ""
            reason = f"processes of task {row.task.name} don't end though they were killed{said}"
            changed |= await _begin(ctx, session, node, row.devices, Code.UNKILLABLE, reason)
            changed |= cordon(ctx, session, node, reason)
        if report.state is AllocationState.EXITED:
            held = [uuid for uuid in row.devices if uuid in report.held_devices]
            said = report.note or "a process or memory is left on it"
            reason = f"task {row.task.name} is over, but {said}"
            changed |= await _begin(ctx, session, node, held, Code.UNRELEASED, reason)
            changed |= await _end(ctx, session, node, row.devices, {Code.UNKILLABLE}, _ENDED)
    return {signals.PLANNING, signals.EVENTS} if changed else set()


async def note_boot(ctx: Context, session: AsyncSession, node: Node, boot_id: str) -> set[str]:
    """A machine that has started anew has nothing left of before."""
    if boot_id == node.boot_id:
        return set()
    codes = {Code.UNKILLABLE, Code.UNRELEASED}
    changed = await _end(ctx, session, node, None, codes, _REBOOTED)
    return {signals.PLANNING, signals.EVENTS} if changed else set()


async def _begin(
    ctx: Context, session: AsyncSession, node: Node, uuids: Iterable[str], code: Code, reason: str
) -> bool:
    if not ctx.settings.quarantine_rules:
        return False
    changed = False
    for place in (await _places(session, node, uuids)).values():
        _, begun = await quarantines.begin(ctx, session, place, code, reason)
        changed |= begun
    return changed


async def _end(
    ctx: Context,
    session: AsyncSession,
    node: Node,
    uuids: Iterable[str] | None,
    codes: set[Code],
    reason: str,
) -> bool:
    rows = [
        row
        for found in (await quarantines.active(session, nodes=[node.id])).values()
        for row in found
        if row.code in codes and row.by_rule and (uuids is None or row.uuid in set(uuids))
    ]
    places = await _places(session, node, [row.uuid for row in rows])
    changed = False
    for row in rows:
        place = places.get(row.uuid) or Place(
            node_id=node.id, node=node.name, uuid=row.uuid, index=None
        )
        changed |= await quarantines.end(ctx, session, row, place, reason)
    return changed


async def _places(session: AsyncSession, node: Node, uuids: Iterable[str]) -> dict[str, Place]:
    wanted = sorted(set(uuids))
    if not wanted:
        return {}
    rows = await session.execute(
        select(Device.uuid, Device.index).where(Device.node_id == node.id, Device.uuid.in_(wanted))
    )
    return {
        uuid: Place(node_id=node.id, node=node.name, uuid=uuid, index=index) for uuid, index in rows
    }
