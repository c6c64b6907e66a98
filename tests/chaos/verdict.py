"""What a schedule's journal, its blows and the service's rows prove. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from tests.chaos.schedule import ChaosTask, Target


class Fault(StrEnum):
    """What must never be."""

    DOUBLE_START = "double start"
    ORPHAN = "orphan"
    LOST_EXIT = "lost exit"
    UNFINISHED = "unfinished"
    HARNESS = "harness"
    """A process of the stand ended that nobody killed."""


class Attempt(NamedTuple):
    """One attempt of one replica."""

    allocation: str
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A fault, and what proves it."""

    fault: Fault
    text: str


@dataclass(slots=True, kw_only=True)
class Evidence:
    """What is left of a schedule once it's over."""

    tasks: Mapping[str, ChaosTask]
    """By the id that the service gave."""
    states: Mapping[str, str]
    """Of each task, at the end."""
    journal: Sequence[Mapping[str, Any]]
    rows: Sequence[Mapping[str, Any]]
    killed: Mapping[Attempt, set[Target]] = field(default_factory=dict)
    """What was killed of each attempt."""
    agents_killed: int = 0
    cancelled: set[str] = field(default_factory=set)
    silenced: bool = False
    """A node was away for so long that it was given up."""
    left: Sequence[str] = ()
    """Processes that were there for too long after the end."""
    ended: Sequence[str] = ()


FINAL_TASK_STATES = {"succeeded", "failed", "cancelled"}
_FINAL_STATES = {"succeeded", "failed", "stopped", "lost"}


def findings(evidence: Evidence) -> list[Finding]:
    """Every fault that there is evidence of."""
    return [
        *_double_starts(evidence),
        *_exits(evidence),
        *_unfinished(evidence),
        *(Finding(fault=Fault.ORPHAN, text=text) for text in evidence.left),
        *(Finding(fault=Fault.HARNESS, text=text) for text in evidence.ended),
    ]


def _double_starts(evidence: Evidence) -> Iterable[Finding]:
    begun: dict[tuple[Attempt, int], list[Mapping[str, Any]]] = defaultdict(list)
    for line in evidence.journal:
        if line["what"] == "begin":
            begun[_attempt(line), line["local_rank"]].append(line)
            if line["beside"]:
                text = f"{_attempt(line)} began (pid {line['pid']}) beside {line['beside']}"
                yield Finding(fault=Fault.DOUBLE_START, text=text)
    for (attempt, local_rank), lines in begun.items():
        if len(lines) > 1:
            pids = [line["pid"] for line in lines]
            text = f"{attempt} rank {local_rank} began {len(lines)} times: pids {pids}"
            yield Finding(fault=Fault.DOUBLE_START, text=text)


def _exits(evidence: Evidence) -> Iterable[Finding]:
    begun: set[Attempt] = set()
    ends: dict[Attempt, dict[int, int]] = defaultdict(dict)
    for line in evidence.journal:
        begun.add(_attempt(line))
        if line["what"] == "end":
            ends[_attempt(line)][line["local_rank"]] = line["code"]
    known = {Attempt(row["id"], row["generation"]) for row in evidence.rows}
    for attempt in begun - known:
        yield Finding(fault=Fault.LOST_EXIT, text=f"{attempt} ran, and no row knows of it")
    for row in evidence.rows:
        attempt = Attempt(row["id"], row["generation"])
        wrong = _wrong(
            evidence,
            row,
            began=attempt in begun,
            ends=ends[attempt],
            killed=evidence.killed.get(attempt, set()),
        )
        if wrong:
            text = (
                f"{attempt} of task {row['task_id']}: {wrong} (recorded: {row['state']}, code"
                f" {row['exit_code']}, signal {row['exit_signal']}, {row['reason']!r};"
                f" ends {ends[attempt]}, killed {sorted(evidence.killed.get(attempt, ()))})"
            )
            yield Finding(fault=Fault.LOST_EXIT, text=text)


def _wrong(
    evidence: Evidence,
    row: Mapping[str, Any],
    *,
    began: bool,
    ends: Mapping[int, int],
    killed: set[Target],
) -> str | None:
    """What is wrong with an attempt's recorded exit; None for one that is as it was."""
    task = evidence.tasks[row["task_id"]]
    by_itself = _own_code(task, ends)
    code, number = row["exit_code"], row["exit_signal"]
    match row["state"]:
        case "succeeded":
            return None if (code, by_itself) == (0, 0) else "a success that wasn't"
        case "failed":
            if number is not None:
                return None if Target.MAIN in killed else "killed by nobody"
            if task.torchrun and code == 1:
                # It fails when a rank does, or was killed.
                whole = by_itself == 0 and not killed
                return "a failure that wasn't" if whole else None
            return None if code is not None and code == by_itself else "another code"
        case "stopped":
            if not (task.replicas > 1 or row["task_id"] in evidence.cancelled or evidence.silenced):
                return "stopped by nobody's order"
            if by_itself is None or task.torchrun:
                told = code is not None and not task.torchrun
                return "a code that nobody gave" if told else None
            return None if code == by_itself or Target.MAIN in killed else "another code"
        case "lost":
            if Target.SHIM in killed or evidence.silenced:
                return None
            if evidence.agents_killed and not began:
                return None  # between the intent and the program
            return "lost, although its shim lived"
        case _:
            return "not final"


def _own_code(task: ChaosTask, ends: Mapping[int, int]) -> int | None:
    """The code with which the attempt ended by itself; None when it didn't, or not all of it."""
    if not task.torchrun:
        return ends.get(0)
    if len(ends) < TORCHRUN_RANKS:
        return None
    return 1 if any(ends.values()) else 0


TORCHRUN_RANKS = 2


def _unfinished(evidence: Evidence) -> Iterable[Finding]:
    for task, state in evidence.states.items():
        if state not in FINAL_TASK_STATES:
            yield Finding(fault=Fault.UNFINISHED, text=f"task {task} is {state}")
            continue
        rows = [row for row in evidence.rows if row["task_id"] == task]
        newest = max((row["generation"] for row in rows), default=0)
        last = {row["state"] for row in rows if row["generation"] == newest}
        if (state == "succeeded") != (last == {"succeeded"}) and task not in evidence.cancelled:
            text = f"task {task} is {state}, its last replicas {sorted(last)}"
            yield Finding(fault=Fault.LOST_EXIT, text=text)


def _attempt(line: Mapping[str, Any]) -> Attempt:
    return Attempt(line["allocation"], line["generation"])
