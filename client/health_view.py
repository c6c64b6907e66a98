"""Quarantines and findings as tables."""

from collections.abc import Iterable, Mapping
from typing import Any

from client.output import Table
from client.views import device_name, moment

Json = Mapping[str, Any]


def quarantine_table(quarantines: Iterable[Json], *, wide: bool) -> Table:
    """What `quarantines` shows."""
    more = ("ID", "UUID", "MODEL") if wide else ()
    return Table(
        columns=("NODE", "DEVICE", *more, "CODE", "SINCE", "UNTIL", "REASON"),
        rows=tuple(
            (
                one["node"],
                device_name(one),
                *((str(one["id"]), one["uuid"], one["model"] or "-") if wide else ()),
                one["code"],
                moment(one["since"]),
                _until(one),
                one["reason"],
            )
            for one in quarantines
        ),
    )


def _until(quarantine: Json) -> str:
    if quarantine["released_at"] is not None:
        return moment(quarantine["released_at"])
    return "it is over" if quarantine["by_rule"] else "released by hand"


def finding_table(findings: Iterable[Json]) -> Table:
    """What `findings` shows."""
    return Table(
        columns=("KIND", "TASK", "NODE", "DEVICE", "SINCE", "WHAT"),
        rows=tuple(
            (
                one["kind"],
                one["task"] or "-",
                one["node"] or "-",
                one["device"] or "-",
                moment(one["since"]),
                one["text"],
            )
            for one in findings
        ),
    )
