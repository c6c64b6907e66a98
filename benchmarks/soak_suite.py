"""Chaos over real processes, and what starting and stopping cost.

``SOAK_SCHEDULES`` schedules (1,000) of `kill -9` on service, agents, shims, torchrun and workers;
``SOAK_PARTS`` picks parts of the suite: schedules, cases.
"""

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import soak_cases
from benchmarks.harness import Case, LeftOut

ROOT = Path(__file__).parents[1]
_SEEDS_SHOWN = 10


def run() -> Iterator[Case | LeftOut]:
    """The short part first."""
    parts = os.environ.get("SOAK_PARTS", "cases,schedules").split(",")
    if unknown := set(parts) - {"cases", "schedules"}:
        raise SystemExit(f"no part {', '.join(sorted(unknown))} (there are: cases, schedules)")
    if "cases" in parts:
        yield from soak_cases.run()
    if "schedules" in parts:
        yield from _schedules(int(os.environ.get("SOAK_SCHEDULES", "1000")))


def _schedules(count: int) -> Iterator[Case | LeftOut]:
    """In a process of its own: nothing imports ``tests``."""
    if not (ROOT / "tests" / "chaos").is_dir():
        yield LeftOut(case=f"{count} schedules", reason="there are no tests/ here")
        return
    with subprocess.Popen(
        [sys.executable, "-m", "tests.chaos", "0", str(count)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        outcomes = [json.loads(line) for line in process.stdout]
    yield from _verdict(count, outcomes)


def _verdict(count: int, outcomes: list[dict[str, Any]]) -> Iterator[Case]:
    seeds: dict[str, list[int]] = defaultdict(list)
    for outcome in outcomes:
        for finding in outcome["findings"]:
            seeds[finding["fault"]].append(outcome["seed"])
            print(f"SOAK_SEED={outcome['seed']}: {finding['fault']}: {finding['text']}")
    hits = sum(outcome["blows"] for outcome in outcomes)
    attempts = sum(outcome["attempts"] for outcome in outcomes)
    what = f"{count:,} schedules of kill -9 at random"
    for name, fault in (
        ("double starts", "double start"),
        ("processes left 10 s after the end", "orphan"),
        ("exit codes lost", "lost exit"),
        ("tasks without an end, stands that fell", "unfinished"),
    ):
        found = seeds[fault] + (seeds["harness"] if fault == "unfinished" else [])
        shown = ", ".join(map(str, found[:_SEEDS_SHOWN]))
        yield Case(
            case=f"{what}: {name}",
            value=len(found),
            unit="faults",
            better="lower",
            must=0,
            note=f"SOAK_SEED={shown}" if found else f"{hits:,} blows, {attempts:,} attempts",
        )
    yield Case(
        case=f"{what}: run to their end",
        value=len(outcomes),
        unit="schedules",
        better="higher",
        must=count,
    )
    longest = max((outcome["orphan_seconds"] for outcome in outcomes), default=0.0)
    yield Case(
        case=f"{what}: from the end of the last task until nothing was left, the longest",
        value=longest,
        unit="s",
        better="lower",
    )
