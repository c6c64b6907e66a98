"""How long tasks are going to run, for a person."""

from collections.abc import Mapping
from typing import Any

from client.quantities import duration_text, percent_text

Json = Mapping[str, Any]


def forecast_lines(view: Json) -> list[str]:
    """What `forecast` says of a task."""
    if view["seconds_p50"] is None:
        return [view["text"]]
    lines = [
        f"half of those like it run {duration_text(view['seconds_p50'])}, "
        f"nine of ten {duration_text(view['seconds_p90'])} at most",
        view["text"],
    ]
    if view["elapsed_seconds"]:
        lines.insert(0, f"it has run {duration_text(view['elapsed_seconds'])}")
    return lines


def calibration_lines(view: Json) -> list[str]:
    """What `forecast --calibration` says."""
    others = f"; of {view['unforeseen']} more nothing was known" if view["unforeseen"] else ""
    if not view["runs"]:
        return [f"no run that was forecast has ended yet{others}"]
    within = [percent_text(100 * view[f"within_{q}_ratio"]) for q in ("p50", "p90")]
    return [
        f"of the last {view['runs']} forecast runs {within[0]} ended within their median, "
        f"{within[1]} within their 90 % quantile{others}"
    ]
