"""Identifiers that sort by the time they were made."""

import secrets
from typing import Protocol

from app.clock import Clock

# Crockford's base 32, in lower case: no letter that is read as another, and text order is number
# order.
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_RANDOM_BITS = 32


class Ids(Protocol):
    """Makes a new identifier of a kind: ``new("t")`` -> ``t-01k9...``."""

    def new(self, prefix: str) -> str: ...


class TimeOrderedIds:
    """48 bits of milliseconds, then 32 random bits: 16 characters behind the prefix.

    Two ids made by one instance never collide and never go backwards, whatever the clock does.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last = 0

    def new(self, prefix: str) -> str:
        milliseconds = int(self._clock.now().timestamp() * 1000)
        drawn = milliseconds << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)
        self._last = max(self._last + 1, drawn)
        return f"{prefix}-{_base32(self._last)}"


def _base32(number: int) -> str:
    return "".join(_ALPHABET[number >> shift & 31] for shift in range(75, -1, -5))
