"""A replica's output, or one rank's lines in it, as the service gives it: page by page."""

from collections.abc import Callable, Iterator
from typing import Any

from client.transport import Transport, part_of_path

_WAIT_SECONDS = 8.0
_PAGE_BYTES = 1 << 16
_PAGE_BYTES_MAX = 1 << 20
_TAIL_BYTES = 1 << 18
_TAIL_BYTES_MAX = 8 << 20
"""As much as the service keeps of an output."""

Json = dict[str, Any]


class Output:
    """Of one replica (default: the first, or that of the rank)."""

    def __init__(
        self, transport: Transport, *, replica: int | None = None, rank: int | None = None
    ) -> None:
        self._transport = transport
        self._of = {"replica": replica, "rank": rank}

    def read(
        self,
        task: str,
        *,
        generation: int | None,
        offset: int,
        tail_lines: int | None,
        follow: bool,
        starts_again: Callable[[str, int | None], bool],
    ) -> Iterator[str]:
        """Piece by piece, as :meth:`client.sdk.Client.logs` says. ``starts_again`` is asked at the
        end of an attempt: True once there is another, False when the task has ended.
        """
        attempt, end = generation, None
        if tail_lines is not None:
            text, page = self._last_lines(task, tail_lines, generation=attempt)
            yield text
            attempt, offset = page["generation"] or None, page["next_offset"]
        # Of one rank's lines much is read for little.
        limit = _PAGE_BYTES if self._of["rank"] is None else _TAIL_BYTES
        while True:
            wait_seconds = _WAIT_SECONDS if follow else 0.0
            page = self.page(
                task, generation=attempt, offset=offset, limit=limit, wait_seconds=wait_seconds
            )
            task = page["task"]
            if page["text"]:
                yield page["text"]
            if page["allocation"] is not None:
                attempt, offset = page["generation"], page["next_offset"]
            if page["complete"]:
                if not follow or generation is not None or not starts_again(task, attempt):
                    return
                attempt, offset = (attempt or 0) + 1, 0
            elif not follow:
                end = page["end"] if end is None else end
                if offset >= end or page["next_offset"] == page["offset"]:
                    return

    def _last_lines(self, task: str, count: int, *, generation: int | None) -> tuple[str, Json]:
        """The last lines so far, and the page that ends with them. Of a rank they may be far apart,
        so ever more is looked through.
        """
        span = _TAIL_BYTES
        while True:
            first = page = self.page(
                task, generation=generation, offset=-span, limit=_PAGE_BYTES_MAX
            )
            texts = [page["text"]]
            while page["offset"] < page["next_offset"] < first["end"]:
                page = self.page(
                    task,
                    generation=generation,
                    offset=page["next_offset"],
                    limit=_PAGE_BYTES_MAX,
                )
                texts.append(page["text"])
            lines = "".join(texts).splitlines(keepends=True)
            whole = first["offset"] <= first["start"] or span >= _TAIL_BYTES_MAX
            if len(lines) > count or whole:
                return "".join(lines[max(len(lines) - count, 0) :]), page
            span = min(span * 4, _TAIL_BYTES_MAX)

    def page(
        self,
        task: str,
        *,
        generation: int | None = None,
        offset: int = 0,
        limit: int = _PAGE_BYTES,
        wait_seconds: float = 0.0,
    ) -> Json:
        """As the service answers."""
        return self._transport.call(
            "GET",
            f"/api/v1/tasks/{part_of_path(task)}/logs",
            params={
                **self._of,
                "generation": generation,
                "offset": offset,
                "limit": limit,
                "wait": wait_seconds,
            },
            wait_seconds=wait_seconds,
        )
