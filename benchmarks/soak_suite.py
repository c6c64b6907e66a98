"""Chaos over real processes, and what starting and stopping cost.

``SOAK_SCHEDULES``: how many schedules (1,000) of `kill -9` on service, agents, shims, torchrun and
workers, and of the long property tests (200 of each). ``SOAK_PARTS`` picks parts of the suite.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from benchmarks import soak_cases
from benchmarks.harness import Case, LeftOut

ROOT = Path(__file__).parents[1]
_SEEDS_SHOWN = 10
_PARTS = ("cases", "properties", "schedules")
_BAD = ("failures", "errors")


def run() -> Iterator[Case | LeftOut]:
    """The short part first."""
    parts = os.environ.get("SOAK_PARTS", ",".join(_PARTS)).split(",")
    if unknown := set(parts) - set(_PARTS):
        print(f"no part {', '.join(sorted(unknown))} (there are: {', '.join(_PARTS)})")
        raise SystemExit(2)
    if not (ROOT / "tests" / "chaos").is_dir():
        yield LeftOut(case="schedules and properties", reason="there are no tests/ here")
        parts = ["cases"]
    if "cases" in parts:
        yield from soak_cases.run()
    if "properties" in parts:
        yield _properties()
    if "schedules" in parts:
        yield from _schedules(int(os.environ.get("SOAK_SCHEDULES", "1000")))


def _properties() -> Case:
    """The tests that are only for here, as a process: nothing imports ``tests``."""
    with tempfile.TemporaryDirectory(prefix="stowplan-soak-") as folder:
        report = Path(folder) / "report.xml"
        workers = str(len(os.sched_getaffinity(0)))
        arguments = ["-m", "soak", "-n", workers, "-q", f"--junit-xml={report}"]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        totals = ElementTree.parse(report).getroot().find("testsuite")
    if done.returncode or totals is None:
        print(done.stdout)
    counts = {} if totals is None else {k: int(totals.get(k, "0")) for k in ("tests", *_BAD)}
    # A run that broke off has failed, whatever it counted.
    bad = sum(counts.get(each, 0) for each in _BAD)
    return Case(
        case="long property tests that fail",
        value=max(bad, int(done.returncode != 0)),
        unit="tests",
        better="lower",
        must=0,
        note=f"of {counts.get('tests', 0):,}",
    )


def _schedules(count: int) -> Iterator[Case]:
    """In a process of its own, as above."""
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
