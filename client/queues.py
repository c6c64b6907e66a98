"""Queues, what is theirs, and bookings of nodes: the service's routes."""

from collections.abc import Iterable, Iterator
from typing import Any

from client.transport import Transport, part_of_path

Json = dict[str, Any]
_PAGE = 500


class Queues:
    """Who tasks belong to: a guarantee, a limit, a weight, in a tree."""

    _PATH = "/api/v1/queues"

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def all(self) -> Iterator[Json]:
        """In the order of the tree, each before those below it; also those that nobody created and
        tasks name."""
        return _pages(self._transport, self._PATH)

    def get(self, name: str) -> Json:
        """One queue, and how it stands now."""
        return self._transport.call("GET", f"{self._PATH}/{part_of_path(name)}")

    def create(self, name: str, **form: Any) -> Json:
        """A new one; ``form`` is the rest of ``QueueForm`` (``parent``, ``weight``, ``guaranteed``,
        ``limit``, ``min_runtime_seconds``, ``comment``)."""
        return self._transport.call("POST", self._PATH, body={"name": name, **form})

    def change(self, name: str, **patch: Any) -> Json:
        """Only what is given changes; in ``guaranteed`` and ``limit`` too, where a dimension that
        is None goes."""
        return self._transport.call("PATCH", f"{self._PATH}/{part_of_path(name)}", body=patch)

    def remove(self, name: str) -> None:
        """Forget one that has none below it and no unfinished task."""
        self._transport.call("DELETE", f"{self._PATH}/{part_of_path(name)}")


class Bookings:
    """Nodes that are one queue's, or nobody's (maintenance), for a while."""

    _PATH = "/api/v1/bookings"

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def all(self, *, everything: bool = False) -> Iterator[Json]:
        """Those that aren't over, the first to begin first; or also those of the last 30 days."""
        return _pages(self._transport, self._PATH, all=everything)

    def get(self, booking: str) -> Json:
        """One, by its id or its name."""
        return self._transport.call("GET", f"{self._PATH}/{part_of_path(booking)}")

    def create(
        self,
        name: str,
        nodes: Iterable[str],
        *,
        starts_at: str | None = None,
        ends_at: str | None = None,
        duration_seconds: float | None = None,
        queue: str | None = None,
        reason: str = "",
    ) -> Json:
        """A new one. Times are ISO 8601 with an offset; without a start it begins now, and without
        a queue nobody has the nodes."""
        form = {
            "name": name,
            "nodes": list(nodes),
            "starts_at": starts_at,
            "ends_at": ends_at,
            "duration_seconds": duration_seconds,
            "queue": queue,
            "reason": reason,
        }
        return self._transport.call("POST", self._PATH, body=form)

    def end(self, booking: str) -> None:
        """End one now; one that hasn't begun is forgotten."""
        self._transport.call("DELETE", f"{self._PATH}/{part_of_path(booking)}")


def _pages(transport: Transport, path: str, **query: Any) -> Iterator[Json]:
    cursor = None
    while True:
        answer = transport.call("GET", path, params={**query, "limit": _PAGE, "cursor": cursor})
        yield from answer["items"]
        cursor = answer["next_cursor"]
        if cursor is None:
            return
