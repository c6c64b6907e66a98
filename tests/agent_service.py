"""The agents' side of a service, over real HTTP, as a test scripts it: what is desired, and whether
it answers at all. It plans nothing and keeps no database; what it hears it keeps for the test to
see.
"""

import gzip
import json
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from protocol import VERSION
from protocol.desired import DesiredAllocation, DesiredSet
from protocol.node import Registered, Registration
from protocol.report import (
    AllocationReport,
    AllocationState,
    Exit,
    LogAck,
    LogChunk,
    Report,
    ReportAck,
)
from protocol.samples import SampleAck, SampleBatch, SampleReport
from telemetry.samples import DeviceEvent
from tests.waiting import DEADLINE_SECONDS

JOIN_TOKEN = "join-token-of-the-tests"
NODE_TOKEN = "node-token-of-the-tests"
LOSE_ANSWER = 0
"""In place of a status: do as asked, and close the connection without a word."""


class AgentService:
    """What the test says and sees. Any thread may use it."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.away = False
        """Answers 503 to everything."""
        self.refusal: tuple[int, str] | None = None
        self.settles = True
        self.lease_seconds = 60.0
        self.version = VERSION
        self.revision = 0
        self.desired: tuple[DesiredAllocation, ...] = ()
        self.registrations: list[tuple[str, Registration]] = []
        self.reports: list[Report] = []
        self.exits: dict[tuple[str, int], list[Exit]] = {}
        self.output: dict[tuple[str, int], bytes] = {}
        """Without what was skipped."""
        self.output_end: dict[tuple[str, int], int] = {}
        self.skipped: dict[tuple[str, int], list[range]] = {}
        self.url = ""
        self.settles_events = True
        self.events: dict[tuple[str, int], DeviceEvent] = {}
        self.event_reports = 0
        """Reports with events in them."""
        self.reports_away = False
        """Answers 503 to reports, and nothing else."""
        self.sample_statuses: deque[int | None] = deque()
        """What the next reports of samples are answered, one each. None: they're taken, as all are
        after those."""
        self.samples_away = False
        self.samples_open = threading.Event()
        """Cleared: reports of samples aren't answered until it is set again."""
        self.samples_open.set()
        self.sample_interval_seconds = 1.0
        self.backlog_batches = 8
        self.most_batches = 256
        """In one report; 413 beyond it."""
        self.bad_batches: set[int] = set()
        """By their seq: 422 for a report with one of them."""
        self.sample_reports: list[SampleReport] = []
        """As they were stored."""
        self.sample_encodings: list[str | None] = []
        self.batches: dict[tuple[str, int], SampleBatch] = {}
        self.duplicates = 0

    def desire(self, *allocations: DesiredAllocation) -> None:
        with self.changed:
            self.revision += 1
            self.desired = allocations
            self.changed.notify_all()

    def wait(self, fact: Any, what: str, seconds: float = DEADLINE_SECONDS) -> None:
        """Until the fact holds; it is looked at after every request."""
        with self.changed:
            assert self.changed.wait_for(fact, seconds), f"waited in vain for: {what}"

    def last(self, allocation: str) -> AllocationReport | None:
        """What the newest report says of an allocation."""
        for one in self.reports[-1].allocations if self.reports else ():
            if one.id == allocation:
                return one
        return None

    def wait_for_state(self, allocation: str, state: AllocationState) -> AllocationReport:
        def reached() -> bool:
            last = self.last(allocation)
            return last is not None and last.state is state

        self.wait(reached, f"{allocation} is {state}")
        found = self.last(allocation)
        assert found is not None
        return found

    def wait_for_exit(self, allocation: str, generation: int = 1) -> Exit:
        key = (allocation, generation)
        self.wait(lambda: key in self.exits, f"{allocation} has exited")
        return self.exits[key][0]

    def text(self, allocation: str, generation: int = 1) -> str:
        return self.output.get((allocation, generation), b"").decode()

    # The routes. Called under the lock.

    def register(self, token: str, form: Registration) -> Registered:
        self.registrations.append((token, form))
        return Registered(
            version=self.version,
            node=form.node,
            token=NODE_TOKEN if token == JOIN_TOKEN else None,
            lease_seconds=self.lease_seconds,
            report_interval_seconds=0.2,
        )

    def report(self, form: Report) -> ReportAck:
        self.reports.append(form)
        exited = [one for one in form.allocations if one.exit is not None]
        for one in exited:
            assert one.exit is not None
            self.exits.setdefault((one.id, one.generation), []).append(one.exit)
        if self.settles and any(d.id in {e.id for e in exited} for d in self.desired):
            self.desired = tuple(d for d in self.desired if d.id not in {e.id for e in exited})
            self.revision += 1
        for one in form.events:
            self.events[form.event_log, one.seq] = one.event
        self.event_reports += bool(form.events)
        return ReportAck(
            seq=form.seq,
            events_settled=max((e.seq for e in form.events), default=0)
            if self.settles_events
            else 0,
            lease_seconds=self.lease_seconds,
            report_interval_seconds=0.2,
            revision=self.revision,
            settled=tuple(one.id for one in exited) if self.settles else (),
        )

    def samples(self, form: SampleReport) -> SampleAck:
        fresh = {(b.epoch, b.seq): b for b in form.batches if (b.epoch, b.seq) not in self.batches}
        self.duplicates += len(form.batches) - len(fresh)
        self.batches.update(fresh)
        self.sample_reports.append(form)
        return SampleAck(
            rows=sum(rows(batch) for batch in fresh.values()),
            duplicates=len(form.batches) - len(fresh),
            interval_seconds=self.sample_interval_seconds,
            backlog_batches=self.backlog_batches,
        )

    def sample_fault(self, form: SampleReport) -> int | None:
        """The status of a refusal; None for a report that is taken."""
        if self.samples_away:
            return 503
        if self.sample_statuses:
            return self.sample_statuses.popleft()
        if len(form.batches) > self.most_batches:
            return 413
        return 422 if self.bad_batches & {batch.seq for batch in form.batches} else None

    def logs(self, form: LogChunk) -> LogAck:
        key = (form.allocation, form.generation)
        end = self.output_end.get(key, 0)
        if form.data and (form.offset == end or (form.skipped and form.offset > end)):
            if form.offset > end:
                self.skipped.setdefault(key, []).append(range(end, form.offset))
            self.output[key] = self.output.get(key, b"") + form.data
            end = self.output_end[key] = form.offset + len(form.data)
        return LogAck(next_offset=end)

    def desired_set(self, revision: int, wait_seconds: float) -> DesiredSet | None:
        self.changed.wait_for(lambda: self.revision != revision, wait_seconds)
        if self.revision == revision:
            return None
        return DesiredSet(node="n1", revision=self.revision, allocations=self.desired)


def rows(batch: SampleBatch) -> int:
    parts = (batch.host, batch.devices, batch.tasks)
    return sum(len(part.taken_at_ms) for part in parts if part is not None)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    service: AgentService

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        service, token = self.service, self.headers["Authorization"].removeprefix("Bearer ")
        path = urlsplit(self.path).path
        if path == "/agent/v1/samples":
            service.samples_open.wait(DEADLINE_SECONDS)
        with service.changed:
            if self._refused(token):
                return
            match path:
                case "/agent/v1/register":
                    answer = service.register(token, Registration.model_validate_json(body))
                    self._answer(200, answer.model_dump_json())
                case "/agent/v1/report" if service.reports_away:
                    self._answer(503, json.dumps({"detail": "away"}))
                case "/agent/v1/report":
                    answer = service.report(Report.model_validate_json(body))
                    self._answer(200, answer.model_dump_json())
                case "/agent/v1/samples":
                    self._take_samples(body)
                case _:
                    answer = service.logs(LogChunk.model_validate_json(body))
                    self._answer(200, answer.model_dump_json())
            service.changed.notify_all()

    def _take_samples(self, body: bytes) -> None:
        encoding = self.headers["Content-Encoding"]
        self.service.sample_encodings.append(encoding)
        form = SampleReport.model_validate_json(gzip.decompress(body) if encoding else body)
        match self.service.sample_fault(form):
            case None:
                self._answer(200, self.service.samples(form).model_dump_json())
            case 0:  # LOSE_ANSWER
                self.service.samples(form)
                self.close_connection = True
            case status:
                self._answer(status, json.dumps({"detail": "as the test says"}))

    def do_GET(self) -> None:
        if urlsplit(self.path).path != "/agent/v1/desired":
            self._answer(503 if self.service.away else 404, "{}")  # it has no users' routes
            return
        query = parse_qs(urlsplit(self.path).query)
        with self.service.changed:
            if self._refused(self.headers["Authorization"].removeprefix("Bearer ")):
                return
            # Never longer than a test's patience: at its end the server waits for its handlers.
            wait_seconds = min(float(query["wait"][0]), 1.0)
            desired = self.service.desired_set(int(query["revision"][0]), wait_seconds)
            if desired is None:
                self._answer(204, "")
            else:
                self._answer(200, desired.model_dump_json())

    def _refused(self, token: str) -> bool:
        if self.service.away:
            self._answer(503, json.dumps({"detail": "away"}))
        elif self.service.refusal is not None:
            status, detail = self.service.refusal
            self._answer(status, json.dumps({"detail": detail}))
        elif token not in {JOIN_TOKEN, NODE_TOKEN}:
            self._answer(401, json.dumps({"detail": "unknown token"}))
        else:
            return False
        return True

    def _answer(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        if status == 429:
            self.send_header("Retry-After", "3")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Quiet: the tests look at the state, not at lines."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """An agent that was killed leaves broken connections behind: no fault of the server."""


@contextmanager
def serving() -> Iterator[AgentService]:
    """A service on a port of its own."""
    service = AgentService()
    handler = type("Handler", (_Handler,), {"service": service})
    server = _Server(("127.0.0.1", 0), handler)
    service.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
