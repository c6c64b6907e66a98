"""How the service and the solver's child process tell messages apart: four bytes of length, then
the bytes."""

import json
import struct

LENGTH = struct.Struct(">I")
READY = b"ready"
"""The child's first message: it waits for a problem. And the first about each valid problem: what
solving it takes is loaded, and its deadline may count."""
ANSWER, FAULTS = b"P", b"F"
"""The first byte of an answer says which JSON follows."""


def budget_seconds(problem: bytes) -> float | None:
    """How long a problem asks to be solved for, by its own words; None where it says nothing
    usable.

    What else is wrong with the document is found by those who parse all of it.
    """
    try:
        seconds = json.loads(problem)["budget"]["seconds"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds >= 0:
        return None
    return seconds
