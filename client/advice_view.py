"""What tasks used, and what they'd do with, for a person."""

from collections.abc import Iterable, Mapping
from typing import Any

from client.output import Table
from client.quantities import duration_text, memory_text, percent_text

Json = Mapping[str, Any]

_QUANTITIES = (
    ("gpu_utilization_percent", "GPU busy"),
    ("gpu_memory_mib", "GPU memory"),
    ("cpu_cores", "CPU cores"),
    ("memory_mib", "memory"),
)


def usage_table(usage: Json) -> Table:
    """Peaks and percentiles of each quantity; a dash is "not measured"."""
    return Table(
        columns=("QUANTITY", "PEAK", "P95", "P50", "MEASURED"),
        rows=tuple(
            (title, *_spread(name, usage[name], usage["measured_seconds"]))
            for name, title in _QUANTITIES
        ),
    )


def _spread(name: str, spread: Json | None, measured_seconds: float) -> tuple[str, ...]:
    if spread is None:
        return "-", "-", "-", "not at all"
    known = spread["known_ratio"] * measured_seconds
    return *(_quantity(name, spread[q]) for q in ("peak", "p95", "p50")), duration_text(known)


def _quantity(name: str, value: float) -> str:
    if name == "cpu_cores":
        return f"{value:.2f}"
    return memory_text(round(value)) if name.endswith("_mib") else percent_text(value)


def usage_note(usage: Json) -> str:
    """What the numbers are of."""
    of = "minutes" if usage["resolution_seconds"] == 60 else "hours"
    replicas = usage["replicas"]
    return (
        f"{usage['name']} ({usage['task']}), attempt {usage['generation']}, {replicas} "
        f"replica{'' if replicas == 1 else 's'}, held {duration_text(usage['held_seconds'])}; "
        f"percentiles are of {of}"
    )


def advice_table(items: Iterable[Json]) -> Table:
    """What `advice` shows: a row for each word of a request that could be smaller."""
    return Table(
        columns=("TASK", "NAME", "STATE", "ASK FOR", "INSTEAD OF", "GPU-HOURS", "SURE", "WHY"),
        rows=tuple(
            (
                item["task"],
                item["name"],
                item["state"],
                f"{one['field']} {one['suggested']}",
                str(one["now"]),
                f"{one['gpu_hours']:.1f}" if one["gpu_hours"] else "-",
                one["confidence"],
                one["text"],
            )
            for item in items
            for one in item["advice"]
        ),
    )
