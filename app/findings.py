"""What the service has found out by measuring and a person should know: as of the last look.

A finding stops no task. It's kept in memory, and found again from rows by a restarted service.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from fastapi import Depends, Request


class FindingKind(StrEnum):
    HELD_BUT_IDLE = "held_but_idle"
    """A task holds devices and none of its processes does."""
    GONE_IDLE = "gone_idle"
    """Its processes are there, have worked, and do no more."""
    UNHEALTHY = "unhealthy"
    UNMANAGED = "unmanaged"
    UNKNOWN = "unknown"
    """Nothing is measured where tasks run: that is no sign of idleness."""


IDLE_KINDS = frozenset({FindingKind.HELD_BUT_IDLE, FindingKind.GONE_IDLE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    kind: FindingKind
    text: str
    since: datetime | None = None
    """None: nobody wrote down when it began."""
    node: str | None = None
    device: str | None = None
    """A UUID."""
    task: str | None = None
    gpu_hours: float | None = None
    """Of devices that are held for nothing, so far."""


class Findings:
    """The current ones. Replaced as a whole by whoever watches."""

    def __init__(self) -> None:
        self._all: tuple[Finding, ...] = ()
        self._idle: dict[str, Finding] = {}

    def replace(self, findings: Iterable[Finding]) -> None:
        self._all = tuple(findings)
        self._idle = {
            finding.task: finding
            for finding in self._all
            if finding.task is not None and finding.kind in IDLE_KINDS
        }

    @property
    def all(self) -> tuple[Finding, ...]:
        return self._all

    def idle(self, task: str) -> Finding | None:
        """What is known of a task's idleness; None also when nothing is known."""
        return self._idle.get(task)


async def findings(request: Request) -> Findings:
    return request.app.state.findings


Found = Annotated[Findings, Depends(findings)]
