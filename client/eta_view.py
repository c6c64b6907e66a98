"""Starts to come, for a person."""

from collections.abc import Iterable, Mapping
from typing import Any

from client.output import Table
from client.quantities import duration_text

Json = Mapping[str, Any]

_NOT_KNOWN = "not known"


def eta_table(items: Iterable[Json]) -> Table:
    """What `eta` shows: a row a task, in the order in which they get their room."""
    return Table(
        columns=("TASK", "NAME", "STATE", "HALF", "NINE IN TEN", "NODES", "WHY"),
        rows=tuple(
            (
                item["task"],
                item["name"],
                item["state"],
                *_starts(item, item["state"]),
                ",".join(item["nodes"]) or "-",
                item["why"],
            )
            for item in items
        ),
    )


def new_table(found: Json) -> Table:
    """The tasks that aren't there yet."""
    return Table(
        columns=("NEW TASK", "HALF", "NINE IN TEN", "NODES", "COST", "WHY"),
        rows=tuple(
            (
                task["name"],
                *_starts(task),
                ",".join(task["nodes"]) or "-",
                "-" if task["cost"] is None else f"{task['cost']:.2f}",
                task["why"],
            )
            for task in found["tasks"]
        ),
    )


def affected_table(found: Json) -> Table:
    """Who starts at another time than without the changes, by the median."""
    return Table(
        columns=("AFFECTED", "NAME", "BEFORE", "AFTER"),
        rows=tuple(
            (
                one["task"],
                one["name"],
                "runs" if one["before"] is None else _in(one["before"]["seconds_p50"]),
                "cancelled" if one["after"] is None else _in(one["after"]["seconds_p50"]),
            )
            for one in found["affected"]
        ),
    )


def simulation_note(found: Json) -> str:
    """What the whole comes to."""
    said = [f"{len(found['affected'])} affected"]
    if found["cost"] is not None:
        said.append(f"cost {found['cost']:.2f}")
    if found["unknown"]:
        said.append(f"{len(found['unknown'])} tasks of unknown duration are taken never to end")
    return "; ".join(said) + ". Nothing was changed."


def _starts(item: Json, state: str = "pending") -> tuple[str, str]:
    if state != "pending":
        return "-", "-"
    return _in(item["seconds_p50"]), _in(item["seconds_p90"])


def _in(seconds: float | None) -> str:
    if seconds is None:
        return _NOT_KNOWN
    return "now" if seconds == 0 else f"in {duration_text(seconds)}"
