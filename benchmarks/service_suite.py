"""The service end to end: a real process, SQLite, HTTP over loopback, one user, one node."""

import json
import queue
import threading
import time
from collections.abc import Callable, Iterator

import httpx2

from benchmarks.harness import Case
from benchmarks.live_service import DEVICES, WAIT_SECONDS, LiveService, PlayedNode
from protocol.task import Request, TaskSpec
from telemetry.stats import quantile

PLACED = 100
SUBMITTED = 300
REPORTS = 300
TASK = TaskSpec(argv=("true",), request=Request(cpu_milli=1000, memory_mib=1024, gpus=1))


def run() -> Iterator[Case]:
    """Placement of single tasks first, then a burst that the node can't hold, then reports."""
    with LiveService() as service:
        node = PlayedNode(service)
        try:
            placed = _placement_seconds(service, node)
            submitted = timed(SUBMITTED, lambda: _submit(service.user))
            reported = timed(REPORTS, lambda: node.send(node.report_form()))
        finally:
            node.close()
    what = f"submit to the task_placed event, {PLACED} tasks one after the other"
    yield _seconds(f"{what}: p50", quantile(placed, 0.5))
    yield _seconds(f"{what}: p99", quantile(placed, 0.99))
    what = f"{SUBMITTED} submissions one after the other, {DEVICES} devices"
    rate = SUBMITTED / sum(submitted)
    yield Case(case=f"{what}: rate", value=rate, unit="tasks/s", better="higher")
    yield _seconds(f"{what}: p99", quantile(submitted, 0.99))
    waiting = SUBMITTED - 8
    yield _seconds(
        f"report without samples, {waiting} tasks waiting: p99", quantile(reported, 0.99)
    )


def timed(times: int, do: Callable[[], object]) -> list[float]:
    """The wall seconds of each of so many calls."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        do()
        seconds.append(time.perf_counter() - start)
    return seconds


def _seconds(case: str, value: float) -> Case:
    return Case(case=case, value=value, unit="s", better="lower")


def _submit(user: httpx2.Client) -> str:
    answer = user.post("/api/v1/tasks", content=TASK.model_dump_json(exclude_none=True))
    return answer.raise_for_status().json()["id"]


def _placement_seconds(service: LiveService, node: PlayedNode) -> list[float]:
    """From the submission's first byte until the event is read; each task ends before the next."""
    seconds = []
    with PlacedEvents(service) as placed:
        for _ in range(PLACED):
            start = time.perf_counter()
            task = _submit(service.user)
            seconds.append(placed.moment_of(task) - start)
            node.finish_one()
    return seconds


class PlacedEvents:
    """The service's event stream, read by a thread that notes when a task was placed."""

    def __init__(self, service: LiveService) -> None:
        self._http = service.client("user.token")
        self._moments: queue.Queue[tuple[str, float]] = queue.Queue()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> "PlacedEvents":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # The stream has no end: the thread is a daemon and goes with the service's last byte.
        self._closing.set()

    def moment_of(self, task: str) -> float:
        """The ``perf_counter`` at which the event of this task came."""
        while True:
            placed, moment = self._moments.get(timeout=WAIT_SECONDS)
            if placed == task:
                return moment

    def _read(self) -> None:
        headers = {"Accept": "text/event-stream"}
        with (
            self._http,
            self._http.stream("GET", "/api/v1/events", headers=headers, timeout=None) as stream,
        ):
            kind = ""
            for line in stream.iter_lines():
                moment = time.perf_counter()
                field, _, value = line.partition(": ")
                if field == "event":
                    kind = value
                elif field == "data" and kind == "task_placed":
                    self._moments.put((json.loads(value)["task"], moment))
                if self._closing.is_set():
                    return
