"""Cases, the table that shows them, and the file that keeps them (contract, section 7)."""

import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import psutil
from rich.console import Console
from rich.table import Table

OUT = Path(__file__).parent / "out"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One measured value. ``must`` decides whether it is good enough; ``aim`` is a wish beyond."""

    case: str
    value: float
    unit: str
    better: Literal["lower", "higher"]
    must: float | None = None
    aim: float | None = None
    note: str = ""
    """What others reached, or what the value is made of; for the table only."""

    def __post_init__(self) -> None:
        """A value that can't be is a fault of the benchmark, not a result."""
        if not (math.isfinite(self.value) and self.value >= 0) or (
            self.unit == "gap" and self.value > 1
        ):
            raise ValueError(f"{self.case}: {self.value} {self.unit} can't be")

    @property
    def ok(self) -> bool | None:
        """By value and must alone; None for a case that is only reported."""
        if self.must is None:
            return None
        return self.value <= self.must if self.better == "lower" else self.value >= self.must


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A case that could not be measured here, and why. It has no value, so it never passes."""

    case: str
    reason: str


Suite = Callable[[], Iterator[Case | LeftOut]]
"""Measures one case after the other."""


def run_suite(name: str, suite: Suite, console: Console, out: Path = OUT) -> bool:
    """Run a suite, show how it goes and its table, and write ``NAME.json`` and, for a page of the
    documentation, ``NAME.md``; False when a case is not ok.
    """
    about = machine()
    cases: list[Case] = []
    left_out: list[LeftOut] = []
    start = time.monotonic()
    with console.status(f"{name} ..."):
        for result in suite():
            match result:
                case Case():
                    cases.append(result)
                    shown = f"{result.case}: {_number(result.value)} {result.unit}"
                case LeftOut():
                    left_out.append(result)
                    shown = f"{result.case}: left out"
            seconds = time.monotonic() - start
            console.print(f"{seconds:5.0f} s  {shown}", style="dim", highlight=False)
    console.print(_table(name, cases, left_out))
    console.print("  ".join(f"{key} {value}" for key, value in about.items()), style="dim")
    out.mkdir(exist_ok=True)
    text = json.dumps(_document(about, cases, left_out), indent=2) + "\n"
    (out / f"{name}.json").write_text(text)
    (out / f"{name}.md").write_text(_markdown(about, cases, left_out))
    return all(case.ok is not False for case in cases)


def machine() -> dict[str, str | int]:
    """What the values were measured on, and when (UTC)."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mib": psutil.virtual_memory().total >> 20,
        "python": platform.python_version(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.machine()  # Arm's kernels name no model


def _document(
    about: dict[str, str | int], cases: Iterable[Case], left_out: Iterable[LeftOut]
) -> dict[str, object]:
    return {
        "machine": about,
        "cases": [_form(case) for case in cases],
        "left_out": [asdict(case) for case in left_out],
    }


def _form(case: Case) -> dict[str, object]:
    form: dict[str, object] = {**asdict(case), "ok": case.ok}
    del form["note"]
    return form


def _markdown(
    about: dict[str, str | int], cases: Iterable[Case], left_out: Iterable[LeftOut]
) -> str:
    lines = [
        "{cpu}, {cores} cores, {memory_mib:,} MiB, Python {python}, {date}".format(**about),
        "",
        "| case | value | must | aim | ok | note |",
        "|---|---:|---:|---:|---|---|",
    ]
    for case in cases:
        verdict = {True: "yes", False: "**no**", None: ""}[case.ok]
        limits = (_limit(case, limit) for limit in (case.must, case.aim))
        must, aim = ("" if limit == "-" else limit for limit in limits)
        value = f"{_number(case.value)} {case.unit}"
        cells = (case.case, value, must, aim, verdict, case.note)
        lines.append(f"| {' | '.join(cells)} |")
    lines += [f"| {case.case} | left out: {case.reason} | | | | |" for case in left_out]
    return "\n".join(lines) + "\n"


def _table(name: str, cases: Iterable[Case], left_out: Iterable[LeftOut]) -> Table:
    table = Table(title=name, title_justify="left")
    table.add_column("case", overflow="fold")
    for column in ("value", "must", "aim"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("unit", no_wrap=True)
    table.add_column("ok", no_wrap=True)
    table.add_column("note")
    for case in cases:
        verdict = {True: "[green]yes", False: "[bold red]NO", None: "-"}[case.ok]
        numbers = (_number(case.value), _limit(case, case.must), _limit(case, case.aim))
        table.add_row(case.case, *numbers, case.unit, verdict, case.note)
    for missing in left_out:
        text = f"{missing.case} [dim]({missing.reason})"
        table.add_row(text, "-", "-", "-", "-", "[yellow]left out", "")
    return table


def _limit(case: Case, limit: float | None) -> str:
    if limit is None:
        return "-"
    return f"{'≤' if case.better == 'lower' else '≥'} {_number(limit)}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
