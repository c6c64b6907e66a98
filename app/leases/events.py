"""What happened on a node, by its own word: each event is recorded once, in the node's order."""

from sqlalchemy.ext.asyncio import AsyncSession

from app.db.tables import Node
from app.deps import Context
from app.events.service import EventKind, record
from protocol.report import Report
from telemetry.samples import DeviceEvent, DeviceEventKind
from telemetry.xids import describe


def note_events(
    ctx: Context, session: AsyncSession, node: Node, report: Report
) -> tuple[DeviceEvent, ...]:
    """Record what is new among the report's events, and give it.

    Their numbers are compared with the last one recorded, not with the report's: a late or repeated
    report may carry events that no other did.
    """
    if not report.events:
        return ()
    last = node.event_seq if node.event_log == report.event_log else 0
    news = [numbered for numbered in report.events if numbered.seq > last]
    index = {device.uuid: device.index for device in node.devices}
    for numbered in news:
        event = numbered.event
        of = "" if event.uuid is None else f"GPU {index.get(event.uuid, event.uuid)}: "
        record(
            session,
            at=ctx.clock.now(),
            kind=EventKind.DEVICE_EVENT,
            node=node.name,
            message=of + _in_words(event),
        )
    if news:
        node.event_log = report.event_log
        node.event_seq = max(numbered.seq for numbered in news)
    return tuple(numbered.event for numbered in news)


def _in_words(event: DeviceEvent) -> str:
    """The node's own words; an Xid's without any are its number's."""
    if event.kind is DeviceEventKind.XID and event.code is not None:
        return event.message or describe(event.code)
    return f"{event.kind}: {event.message}" if event.message else event.kind.value


def events_settled(node: Node, report: Report) -> int:
    return node.event_seq if node.event_log == report.event_log else 0
