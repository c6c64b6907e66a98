"""What the demo shows while it runs: a live table on a terminal, lines of change anywhere else."""

import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol, Self

from client.errors import StowplanError
from client.output import Table, rich_table
from client.quantities import duration_text
from client.use_view import use_table
from client.views import devices_of, nodes_of

if TYPE_CHECKING:
    from rich.console import RenderableType

    from client.sdk import Client, Json

_REFRESH_SECONDS = 0.5
_WORDS_SHOWN = 14


class Screen(Protocol):
    """Shows the cluster from the start of the block to its end."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...

    def say(self, text: str) -> None:
        """Show a line of the story."""
        ...


class PlainScreen:
    """A line for each thing that happens: for a log, a pipe, or a machine without a terminal."""

    def __init__(self, stowplan: "Client") -> None:
        self._stowplan = stowplan
        self._started = time.monotonic()
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._reader = threading.Thread(target=self._read_events, daemon=True)

    def __enter__(self) -> Self:
        self._reader.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._closed.set()

    def say(self, text: str) -> None:
        with self._lock:
            seconds = time.monotonic() - self._started
            sys.stdout.write(f"{seconds:6.1f} s  {text}\n")
            sys.stdout.flush()

    def _read_events(self) -> None:
        try:
            for event in self._stowplan.events(follow=True):
                if self._closed.is_set():
                    return
                self.say(event_text(event))
        except StowplanError as error:
            if not self._closed.is_set():
                self.say(f"the events ended: {error}")


class LiveScreen:
    """Tables of tasks and devices, drawn again twice a second, and the story's words below."""

    def __init__(self, stowplan: "Client") -> None:
        from rich.console import Console
        from rich.live import Live

        self._stowplan = stowplan
        self._words: deque[str] = deque(maxlen=_WORDS_SHOWN)
        self._tables: list[Any] = []
        self._closed = threading.Event()
        self._painter = threading.Thread(target=self._paint, daemon=True)
        self._console = Console()
        self._live = Live(console=self._console, get_renderable=self._draw, refresh_per_second=4)

    def __enter__(self) -> Self:
        self._live.start()
        self._painter.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._closed.set()
        self._live.stop()

    def say(self, text: str) -> None:
        self._words.extend(text.splitlines())

    def _draw(self) -> "RenderableType":
        from rich.console import Group
        from rich.text import Text

        words = Text("\n".join(list(self._words)))
        return Group(*(part for table in self._tables for part in (table, Text())), words)

    def _paint(self) -> None:
        while not self._closed.wait(_REFRESH_SECONDS):
            try:
                tasks = sorted(self._stowplan.tasks(), key=lambda task: task["id"])
                nodes, latest = list(self._stowplan.nodes()), self._stowplan.latest()
            except StowplanError:
                continue  # the story meets the same error, and tells it
            self._tables = [rich_table(progress_table(tasks)), rich_table(use_table(nodes, latest))]


def event_text(event: "Json") -> str:
    """What happened; an event of a node alone is told with its name."""
    of_node = event["task"] is None and event["node"] is not None
    return f"{event['node']}: {event['message']}" if of_node else event["message"]


def progress_table(tasks: "list[Json]") -> Table:
    """The demo's tasks while they run."""
    return Table(
        columns=("TASK", "STATE", "RUNTIME", "NODES", "DEVICES"),
        rows=tuple(
            (
                task["name"],
                task["state"],
                duration_text(task["running_seconds"]),
                nodes_of(task),
                devices_of(task),
            )
            for task in tasks
        ),
    )
