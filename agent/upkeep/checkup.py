"""What a check of this machine finds: one line each, with the way to mend it."""

from dataclasses import dataclass
from enum import StrEnum


class Grade(StrEnum):
    OK = "ok"
    WARN = "warn"
    """It works, but not as well as it could."""
    FAIL = "fail"
    """The agent, or every task, comes to grief over it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    grade: Grade
    what: str
    """Which check, in a word or two."""
    found: str
    mend: str = ""


def ok(what: str, found: str) -> Finding:
    return Finding(grade=Grade.OK, what=what, found=found)


def warn(what: str, found: str, mend: str) -> Finding:
    return Finding(grade=Grade.WARN, what=what, found=found, mend=mend)


def fail(what: str, found: str, mend: str) -> Finding:
    return Finding(grade=Grade.FAIL, what=what, found=found, mend=mend)
