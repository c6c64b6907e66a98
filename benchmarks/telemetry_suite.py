"""Telemetry: what it costs to take measurements in, to keep them, to forget them and to look at
them."""

import os
from collections.abc import Callable, Iterator, Mapping

from benchmarks import agent_cost, fleet, ingest, retention, telemetry_reads
from benchmarks.harness import Case, LeftOut

Part = Callable[[], Iterator[Case | LeftOut]]

PARTS: Mapping[str, Part] = {
    "ingest": ingest.run,
    "retention": retention.run,
    "reads": telemetry_reads.run,
    "agent": agent_cost.run,
    "fleet": fleet.run,
}


def run() -> Iterator[Case | LeftOut]:
    """All parts, or those that ``BENCH_TELEMETRY`` names (``ingest,fleet``), one after the other.

    Raises:
        ValueError: it names one that doesn't exist.
    """
    asked = os.environ.get("BENCH_TELEMETRY", "").replace(",", " ").split()
    unknown = [name for name in asked if name not in PARTS]
    if unknown:
        raise ValueError(
            f"BENCH_TELEMETRY: no part {', '.join(unknown)} (there are: {', '.join(PARTS)})"
        )
    for name in asked or PARTS:
        yield from PARTS[name]()
