"""A real ``stowplan serve`` on loopback, with SQLite in a home of its own, and a node played for
it.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import httpx2
import psutil

from protocol import VERSION
from protocol.desired import DesiredAllocation, DesiredSet, Phase
from protocol.node import Registered, Registration
from protocol.report import AllocationReport, AllocationState, Exit, Report, ReportAck
from telemetry.samples import DeviceInventory, HostInventory, Inventory

START_SECONDS = 60.0
STOP_SECONDS = 30.0
WAIT_SECONDS = 30.0
NODE = "bench-node"
DEVICES = 8
DEVICE_MEMORY_MIB = 40_960


class LiveService:
    """The service as a process. Leaving the block stops it and removes its home."""

    def __init__(
        self, database_url: str | None = None, settings: Mapping[str, str] | None = None
    ) -> None:
        """``database_url``: None is SQLite in a home that goes with the service; ``settings``:
        variables STOWPLAN_*."""
        self._database_url = database_url
        self._given = settings or {}
        self.root = Path(tempfile.mkdtemp(prefix="stowplan-bench-"))
        self.home = self.root / "home"
        self.database = self.home / "stowplan.db"
        self._process: subprocess.Popen[bytes] | None = None
        self.user = httpx2.Client()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.user.close()
        self.stop()
        shutil.rmtree(self.root, ignore_errors=True)

    def stop(self) -> None:
        """End the process; its database stays until the block is left."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def client(self, token_file: str) -> httpx2.Client:
        """A client with one of the tokens that the service has left in its home."""
        url = (self.home / "server.url").read_text().strip()
        return httpx2.Client(
            base_url=url, headers=bearer((self.home / token_file).read_text()), timeout=60
        )

    def _start(self) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("STOWPLAN_")}
        log = self.root / "service.log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "client.cli", "serve", "--port", "0"],
                env={**environment, **self._settings()},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        give_up = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError(f"the service didn't start:\n{log.read_text()}")
            time.sleep(0.05)
        self.user.close()
        self.user = self.client("user.token")

    def _settings(self) -> dict[str, str]:
        settings = {**self._given, "STOWPLAN_HOME": str(self.home)}
        if self._database_url is not None:
            settings["STOWPLAN_DATABASE_URL"] = self._database_url
        return settings

    def cpu_seconds(self) -> float:
        """What the service's own process has used; its planning child isn't in it."""
        assert self._process is not None  # it runs within the block
        times = psutil.Process(self._process.pid).cpu_times()
        return times.user + times.system

    def _answers(self) -> bool:
        try:
            url = (self.home / "server.url").read_text().strip()
            return httpx2.get(f"{url}/readyz").status_code == 200
        except (FileNotFoundError, httpx2.TransportError):
            return False


def join(joining: httpx2.Client, node: str) -> str:
    """Register a node with eight devices; its token."""
    inventory = _inventory(node)
    form = Registration(version=VERSION, node=node, address="127.0.0.1", inventory=inventory)
    answer = joining.post("/agent/v1/register", content=form.model_dump_json())
    return Registered.model_validate_json(answer.raise_for_status().content).token or ""


def state_report(node: str, *allocations: AllocationReport, seq: int, sent_at_ms: int) -> bytes:
    """The body of a node's report of its state."""
    form = Report(
        version=VERSION,
        node=node,
        boot_id="boot",
        epoch="epoch",
        seq=seq,
        sent_at_ms=sent_at_ms,
        allocations=allocations,
    )
    return form.model_dump_json().encode()


class PlayedNode:
    """A node with eight devices, as the service sees one: it registers, reports, runs nothing."""

    def __init__(self, service: LiveService) -> None:
        self.http = service.client("join.token")
        self.http.headers.update(bearer(join(self.http, NODE)))
        self._seq = 0
        self._revision = -1

    def close(self) -> None:
        self.http.close()

    def report_form(self, *allocations: AllocationReport) -> bytes:
        """The body of the next report."""
        self._seq += 1
        sent_at_ms = time.time_ns() // 1_000_000
        return state_report(NODE, *allocations, seq=self._seq, sent_at_ms=sent_at_ms)

    def send(self, body: bytes) -> ReportAck:
        """Report, and read the answer."""
        answer = self.http.post("/agent/v1/report", content=body)
        return ReportAck.model_validate_json(answer.raise_for_status().content)

    def finish_one(self) -> None:
        """Wait for an allocation that is to run, and report that it has run and ended well."""
        allocation = self._to_run()
        key = {"id": allocation.id, "generation": allocation.generation}
        now_ms = time.time_ns() // 1_000_000
        running = AllocationReport(
            **key, state=AllocationState.RUNNING, pid=1, port=20_000, started_at_ms=now_ms
        )
        ended = AllocationReport(
            **key, state=AllocationState.EXITED, exit=Exit(code=0, at_ms=now_ms)
        )
        self.send(self.report_form(running))
        settled = self.send(self.report_form(ended)).settled
        if allocation.id not in settled:
            raise RuntimeError(f"the service didn't settle {allocation.id}")

    def _to_run(self) -> DesiredAllocation:
        give_up = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < give_up:
            query = {"revision": self._revision, "wait": 5}
            answer = self.http.get("/agent/v1/desired", params=query).raise_for_status()
            if answer.status_code == 200:
                desired = DesiredSet.model_validate_json(answer.content)
                self._revision = desired.revision
                for allocation in desired.allocations:
                    if allocation.phase is Phase.RUN:
                        return allocation
        raise RuntimeError(f"nothing to run came within {WAIT_SECONDS} s")


def device_uuid(index: int, node: str = NODE) -> str:
    return f"SIM-{node}-{index}"


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token.strip()}"}


def _inventory(node: str) -> Inventory:
    return Inventory(
        host=HostInventory(
            hostname=node,
            boot_id="boot",
            kernel="6.1",
            cpu_milli=96_000,
            memory_mib=786_432,
            disk_mib=1_000_000,
            network_mbps=100_000,
        ),
        devices=tuple(
            DeviceInventory(
                uuid=device_uuid(index, node),
                index=index,
                model="A100",
                memory_mib=DEVICE_MEMORY_MIB,
                numa=index // 4,
                simulated=True,
            )
            for index in range(DEVICES)
        ),
        device_source="simulated",
    )
