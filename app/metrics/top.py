"""The most, or the least, of something among all that is live."""

import heapq
from typing import Any

from app.db.samples.tables import Kind
from app.metrics.latest import Fleet
from app.metrics.live import Live, Reading
from app.metrics.rates import value_of

Form = dict[str, Any]


def top(
    live: Live, fleet: Fleet, kind: Kind, metric: str, *, n: int, most: bool, now_ms: int
) -> list[Form]:
    """The ``n`` readings with most of a metric, or least. Of what isn't known nothing is said."""
    values = (
        (value, reading)
        for reading in live.readings(kind, now_ms=now_ms)
        if (value := value_of(reading, metric)) is not None
    )
    pick = heapq.nlargest if most else heapq.nsmallest
    found = pick(n, values, key=lambda pair: pair[0])
    return [_item(value, reading, fleet) for value, reading in found]


def _item(value: float, reading: Reading, fleet: Fleet) -> Form:
    replica = fleet.replica(reading.key) if reading.kind is Kind.TASK else None
    return {
        "value": value,
        "taken_at_ms": reading.taken_at_ms,
        "node": reading.node,
        "device": reading.key if reading.kind is Kind.DEVICE else None,
        "task": None if replica is None else replica.task,
        "allocation": reading.key if reading.kind is Kind.TASK else None,
    }
