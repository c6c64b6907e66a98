"""How far a task has come, for a person: `ps`, `show` and `top` say it alike."""

from collections.abc import Mapping
from typing import Any

from client.quantities import duration_text

Json = Mapping[str, Any]


def progress_text(of: Json) -> str:
    """``1200/5000, saved 3m00s ago`` of a task or a replica; empty when it says nothing."""
    progress = of.get("progress") or {}
    step, steps = progress.get("step"), progress.get("steps")
    parts = []
    if step is not None:
        parts.append(f"{step}/{steps}" if steps is not None else f"{step}")
    age_seconds = progress.get("checkpoint_age_seconds")
    if age_seconds is not None:
        parts.append(f"saved {duration_text(age_seconds)} ago")
    elif progress.get("checkpoint_step") is not None:
        parts.append(f"saved {progress['checkpoint_step']}")
    elif step is not None:
        parts.append("nothing saved")
    return ", ".join(parts)


def progress_line(of: Json) -> str:
    """The same in full: ``step 1200 of 5000; step 1000 saved 3m00s ago, in 6.5s``."""
    progress = of.get("progress") or {}
    parts = []
    if progress.get("step") is not None:
        total = "" if progress.get("steps") is None else f" of {progress['steps']}"
        parts.append(f"step {progress['step']}{total}")
    saved = progress.get("checkpoint_step")
    age_seconds, took_seconds = (
        progress.get("checkpoint_age_seconds"),
        progress.get("checkpoint_seconds"),
    )
    if saved is not None or age_seconds is not None:
        what = "a checkpoint" if saved is None else f"step {saved}"
        ago = "" if age_seconds is None else f" {duration_text(age_seconds)} ago"
        took = "" if took_seconds is None else f", in {duration_text(took_seconds)}"
        parts.append(f"{what} saved{ago}{took}")
    elif parts:
        parts.append("nothing saved in this attempt")
    return "; ".join(parts)
