"""Prometheus' text, written by hand: a client library takes seconds for a fleet's half million
values. A value that isn't known has no line."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One metric. ``column`` is what it's read from, times ``scale``."""

    name: str
    about: str
    type: Literal["gauge", "counter"] = "gauge"
    column: str = ""
    scale: float = 1

    def text(self, values: Iterable[tuple[str, float | None]]) -> str:
        """All lines of the metric, given labels and values; empty when nothing is known."""
        name, scale = self.name, self.scale
        lines = [f"{name}{labels} {value * scale}" for labels, value in values if value is not None]
        if not lines:
            return ""
        head = f"# HELP {name} {self.about}\n# TYPE {name} {self.type}\n"
        return head + "\n".join(lines) + "\n"


def labels(named: Mapping[str, str]) -> str:
    """``{name="value",...}``; nothing for none."""
    if not named:
        return ""
    inner = ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in named.items())
    return f"{{{inner}}}"
