"""Waiting for a fact about the outside world: looked at again and again until a deadline."""

import time
from collections.abc import Callable

DEADLINE_SECONDS = 30.0
_LOOK_AGAIN_SECONDS = 0.01


def wait_for(fact: Callable[[], bool], what: str, seconds: float = DEADLINE_SECONDS) -> None:
    """Return as soon as the fact holds; a test that waits in vain fails with its name."""
    deadline = time.monotonic() + seconds
    while not fact():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s in vain for: {what}")
        time.sleep(_LOOK_AGAIN_SECONDS)
