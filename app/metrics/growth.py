"""How fast something grows, by what was seen of it now and then."""

from collections import deque

_WINDOW_MS = 6 * 3_600_000
_APART_MS = 60_000
"""Looks nearer to one another say little: a file grows in jumps."""
_LEAST_MS = 600_000
"""Nothing is said of the growth before this long."""


class Growth:
    """Sizes in bytes over the last hours."""

    def __init__(self) -> None:
        self._seen: deque[tuple[int, int]] = deque()

    def note(self, at_ms: int, size: int) -> None:
        if not self._seen or at_ms - self._seen[-1][0] >= _APART_MS:
            self._seen.append((at_ms, size))
        while self._seen[-1][0] - self._seen[0][0] > _WINDOW_MS:
            self._seen.popleft()

    def seconds_until(self, more: int) -> float | None:
        """When it will have grown by so many bytes more; None when it doesn't, or isn't known."""
        if not self._seen:
            return None
        (first_ms, first), (last_ms, last) = self._seen[0], self._seen[-1]
        if last_ms - first_ms < _LEAST_MS or last <= first:
            return None
        return more * (last_ms - first_ms) / 1000 / (last - first)
