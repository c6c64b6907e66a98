"""What starting and stopping cost: a real service, one real agent, real processes."""

import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.harness import Case
from benchmarks.live_service import LiveService
from benchmarks.soak_node import DEVICES, RealNode, memory_mib, wait_for
from telemetry.stats import quantile

STARTS = 100
STOP_GRACE_SECONDS = 2.0
SHIMS = 4
_PROGRAMS = Path(__file__).parent / "soak_programs"
_RANKS = 2
_GONE_SECONDS = 30.0


def run() -> Iterator[Case]:
    """One after the other on an idle node: each leaves it as it was."""
    # The gang gives way as soon as it trains, not after a minute.
    settings = {"STOWPLAN_PREEMPT_AFTER_SECONDS": "0"}
    with LiveService(settings=settings) as service, RealNode(service) as node:
        yield from _starts(node)
        yield from _shims(node)
        for how, what in (
            ("ignores_term", "ignores SIGTERM"),
            ("escapes", "has left its session"),
            ("forks", "is another process each time (40 chains of forks)"),
        ):
            yield _stubborn(node, how, what)
        yield _gang(node)


def _starts(node: RealNode) -> Iterator[Case]:
    """The program's own first word against the moment of the commit, both of this machine."""
    seconds = []
    for _ in range(STARTS):
        task = node.submit("date", "+%s.%N")
        node.wait_for_state(task, "succeeded")
        [allocation] = node.task(task)["allocations"]
        assigned = datetime.fromisoformat(allocation["assigned_at"]).timestamp()
        wait_for(lambda task=task: bool(node.output(task)), "its output has come")
        seconds.append(float(node.output(task)) - assigned)
    what = f"placement committed to program started, {STARTS} tasks one after the other"
    yield _seconds(f"{what}: p50", quantile(seconds, 0.5))
    yield _seconds(f"{what}: p99", quantile(seconds, 0.99), must=1.0, aim=0.2)


def _shims(node: RealNode) -> Iterator[Case]:
    tasks = [node.submit("sleep", "600") for _ in range(SHIMS)]
    for task in tasks:
        node.wait_for_state(task, "running")
    used = [memory_mib(node.shim_pid(_allocation(node, task)["id"])) for task in tasks]
    for task in tasks:
        node.cancel(task)
    for task in tasks:
        node.wait_for_state(task, "cancelled")
    rss, pss = (max(each) for each in zip(*used, strict=True))
    yield Case(
        case=f"shim: memory (RSS), the largest of {SHIMS}",
        value=rss,
        unit="MiB",
        better="lower",
        must=10,
    )
    yield Case(
        case=f"shim: memory (PSS), the largest of {SHIMS}",
        value=pss,
        unit="MiB",
        better="lower",
        aim=4,
        note="its part of what it shares with other Python processes here",
    )


def _stubborn(node: RealNode, how: str, what: str) -> Case:
    """From a user's cancel until no process of it is left, beyond its grace."""
    program = str(_PROGRAMS / "stubborn.py")
    argv = (sys.executable, "-I", "-S", program, how)
    task = node.submit(*argv, grace_seconds=STOP_GRACE_SECONDS)
    node.wait_for_state(task, "running")
    wait_for(lambda: "here" in node.output(task), f"a task that {what} is there")
    allocation = _allocation(node, task)["id"]
    begin = time.monotonic()
    node.cancel(task)
    wait_for(lambda: not node.processes_of(allocation), "it is gone", _GONE_SECONDS)
    took = time.monotonic() - begin
    node.wait_for_state(task, "cancelled")
    return _seconds(
        f"stop of a task that {what}: until all of it is gone, beyond its grace",
        max(0.0, took - STOP_GRACE_SECONDS),
        must=1.0,
    )


def _gang(node: RealNode) -> Case:
    """Two ranks behind torchrun hold both devices; a task of a higher priority needs one."""
    gang = node.submit(
        *("torchrun", "--nproc-per-node", str(_RANKS), str(_PROGRAMS / "gang.py")),
        request={"gpus": DEVICES},
        grace_seconds=30,
        checkpoint={"ask": "file"},
    )
    node.wait_for_state(gang, "running")
    wait_for(lambda: node.output(gang).count("trains") == _RANKS, "both ranks train")
    allocation = _allocation(node, gang)["id"]
    begin = time.monotonic()
    other = node.submit("true", request={"gpus": 1}, priority=10)
    with suppress(RuntimeError):  # then the value is 0
        wait_for(lambda: not node.processes_of(allocation), "the gang is gone")
        node.wait_for_state(other, "succeeded")
    took = time.monotonic() - begin
    parts = list(node.state.glob(f"artifacts/{gang}/part-*"))
    complete = len(parts) == _RANKS and all(part.read_text() == "whole" for part in parts)
    row = node.row(allocation)
    recorded = (row["stop_cause"], row["checkpoint"])
    for task in (gang, other):
        node.cancel(task)
        node.wait_for_state(task, "cancelled", "succeeded")
    return Case(
        case="stop of 2 ranks that save for 6 s, 30 s grace: saved whole, classed as preempted",
        value=float(complete and recorded == ("preempted", "saved")),
        unit="gang",
        better="higher",
        must=1,
        note=f"{len(parts)} parts, recorded {recorded}, after {took:.1f} s",
    )


def _allocation(node: RealNode, task: str) -> Any:
    [allocation] = node.task(task)["allocations"]
    return allocation


def _seconds(
    case: str, value: float, *, must: float | None = None, aim: float | None = None
) -> Case:
    return Case(case=case, value=max(0.0, value), unit="s", better="lower", must=must, aim=aim)
