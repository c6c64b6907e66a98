"""How far each node's clock is off. Corrected, never refused."""

from collections import deque

_LOOKS = 16
TOLERATED_MS = 2_000
"""Less than this is the way here, not the clock."""


class NodeClocks:
    """Estimates by the least of a node's last differences between arrival and sending.

    A report may take long, never less than nothing: the least difference is the nearest to the
    clocks' own.
    """

    def __init__(self) -> None:
        self._differences: dict[str, deque[int]] = {}

    def note(self, node: str, *, sent_at_ms: int, arrived_at_ms: int) -> None:
        difference = arrived_at_ms - sent_at_ms
        seen = self._differences.setdefault(node, deque(maxlen=_LOOKS))
        # A clock that was set is another clock: what it told before would hold up the correction.
        if seen and abs(difference - seen[-1]) > 60_000:
            seen.clear()
        seen.append(difference)

    def offset_ms(self, node: str) -> int:
        """What to add to a time of this node's clock; 0 while it's right enough."""
        seen = self._differences.get(node)
        least = min(seen, default=0) if seen else 0
        return least if abs(least) > TOLERATED_MS else 0
