"""What an agent costs its node: memory and time of ``stowplan agent`` and its NVML process.

The GPUs are played by a library in place of NVIDIA's, which ``BENCH_NVML_LIBRARY`` names
(``make bench-telemetry`` builds the tests' own); the service is a real one over HTTP that takes
everything, in this process, whose time doesn't count.
"""

import gzip
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from benchmarks.harness import Case, LeftOut
from protocol import VERSION
from protocol.node import Registered
from protocol.report import ReportAck
from protocol.samples import SampleAck, SampleReport

GPUS = 8
WINDOW_SECONDS = 5.0
REPORT_SECONDS = 10.0
START_SECONDS = 60.0
_PAGES_PER_MIB = (1 << 20) // os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
# Every sensor that the stand-in plays, as on a box of eight H100 behind NVSwitches.
_H100 = (
    "name=NVIDIA_H100_80GB_HBM3 total=81559 reserved=600 busy=12 pstate=0 limit=700000 sm_max=1980"
    " gen=5 gen_max=5 width=16 width_max=16 memory=2619 reasons=4 memory_temperature=48 replays=2"
    " pcie_tx=5000000000 pcie_rx=7000000000 power_violation=2500000000 thermal_violation=0 mig=0"
    " ecc_corrected=3 ecc_uncorrected=0 remapped=1 repair_pending=0 repair_failed=0 events=264"
    " gpm_sm=61 gpm_occupancy=40 gpm_tensor=33 gpm_dram=52 nvlink_tx=1024 nvlink_rx=2048"
)
_ACK = ReportAck(
    seq=1, lease_seconds=60, report_interval_seconds=REPORT_SECONDS, revision=0
).model_dump_json()


def run(seconds: float = 120.0) -> Iterator[Case | LeftOut]:
    """An agent that measures every second, for so long after its first batch was taken."""
    library = Path(os.environ.get("BENCH_NVML_LIBRARY", ""))
    what = f"agent, {GPUS} GPUs at 1 s"
    if not library.is_file():
        yield LeftOut(case=what, reason="BENCH_NVML_LIBRARY names no library that plays GPUs")
        return
    with tempfile.TemporaryDirectory(prefix="stowplan-bench-") as folder, _service() as service:
        agent = _start_agent(Path(folder), service.url, library)
        try:
            service.wait_for_batches(1)
            first = _Usage.of(agent.pid)
            time.sleep(seconds / 4)
            quarter = _Usage.of(agent.pid)
            time.sleep(seconds * 3 / 4)
            last = _Usage.of(agent.pid)
        finally:
            agent.terminate()
            agent.wait()
    rows = service.device_rows / max(1, service.batches)
    if agent.returncode != 0 or rows < GPUS:
        raise RuntimeError(f"the agent ended with {agent.returncode}; {rows:g} GPUs a batch")
    took_seconds = last.at_seconds - first.at_seconds
    share = (last.cpu_seconds - first.cpu_seconds) / took_seconds
    own_share = (last.own_cpu_seconds - first.own_cpu_seconds) / took_seconds
    yield Case(
        case=f"{what}: memory (RSS)",
        value=last.agent_mib,
        unit="MiB",
        better="lower",
        must=60,
        note=f"its NVML process: {last.children_mib:.0f} MiB more",
    )
    yield Case(
        case=f"{what}: share of a core, with its NVML process",
        value=share,
        unit="ratio",
        better="lower",
        must=0.01,
        aim=0.005,
        note=f"over {took_seconds:.0f} s; the agent alone {own_share:.4f}",
    )
    grown = last.agent_mib + last.children_mib - quarter.agent_mib - quarter.children_mib
    yield Case(
        case=f"{what}: memory gained in the last three quarters",
        value=max(0.0, grown),
        unit="MiB",
        better="lower",
        aim=1,
    )


class _Usage:
    """What an agent and its children have used up to a moment."""

    def __init__(
        self, *, own_cpu_seconds: float, cpu_seconds: float, agent_mib: float, children_mib: float
    ) -> None:
        self.at_seconds = time.monotonic()
        self.own_cpu_seconds = own_cpu_seconds
        self.cpu_seconds = cpu_seconds
        self.agent_mib = agent_mib
        self.children_mib = children_mib

    @classmethod
    def of(cls, pid: int) -> "_Usage":
        children = [child for child in _pids() if _stat(child)[1:2] == [str(pid)]]
        return cls(
            own_cpu_seconds=_cpu_seconds(pid),
            cpu_seconds=sum(map(_cpu_seconds, (pid, *children))),
            agent_mib=_rss_mib(pid),
            children_mib=sum(map(_rss_mib, children)),
        )


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on; none for a process that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _cpu_seconds(pid: int) -> float:
    """User and system time, with that of its children that have ended."""
    return sum(int(field) for field in _stat(pid)[11:15]) / _TICKS_PER_SECOND


def _rss_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) / _PAGES_PER_MIB


def _start_agent(folder: Path, url: str, library: Path) -> subprocess.Popen[bytes]:
    script = folder / "gpus"
    script.write_text("".join(f"{line}\n" for line in ("driver 570.86.15", "cuda 12080", *_gpus())))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("STOWPLAN_")}
    with (folder / "agent.log").open("wb") as log:
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "client.cli", "agent", "--server", url, "--name", "bench"),
                *("--join-token", "any", "--state-dir", str(folder / "state")),
                *("--nvml-library", str(library), "--sample-interval", "1"),
            ],
            env={**environment, "STANDIN_NVML_SCRIPT": str(script)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def _gpus() -> Iterator[str]:
    for index in range(GPUS):
        yield (
            f"gpu {index} uuid=GPU-{index} bus=00000000:{16 + index:02X}:00.0 serial=16534{index}"
            f" used={1000 * (index + 1)} util={10 * index} power={300000 + index} sm={1500 + index}"
            f" energy={5000 * (index + 1)} temperature={40 + index} {_H100}"
        )
        for link in range(18):
            yield f"nvlink {index} {link} switch"
        yield f"process {index} {os.getpid()} 1024"


class _Service:
    """Takes whatever an agent sends, and counts."""

    def __init__(self) -> None:
        self.url = ""
        self.batches = 0
        self.device_rows = 0
        self.changed = threading.Condition()
        self.over = threading.Event()

    def take(self, form: SampleReport) -> str:
        with self.changed:
            self.batches += len(form.batches)
            for batch in form.batches:
                self.device_rows += len(batch.devices.key) if batch.devices else 0
            self.changed.notify_all()
        return SampleAck(
            rows=0, interval_seconds=WINDOW_SECONDS, backlog_batches=8
        ).model_dump_json()

    def wait_for_batches(self, count: int) -> None:
        with self.changed:
            if not self.changed.wait_for(lambda: self.batches >= count, START_SECONDS):
                raise RuntimeError(f"no measurements came within {START_SECONDS:g} s")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    service: _Service

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Content-Encoding"] == "gzip":
            body = gzip.decompress(body)
        match self.path:
            case "/agent/v1/register":
                registered = Registered(
                    version=VERSION,
                    node=json.loads(body)["node"],
                    token="own",
                    lease_seconds=60,
                    report_interval_seconds=REPORT_SECONDS,
                )
                self._answer(200, registered.model_dump_json())
            case "/agent/v1/samples":
                self._answer(200, self.service.take(SampleReport.model_validate_json(body)))
            case _:
                self._answer(200, _ACK)

    def do_GET(self) -> None:
        """Nothing to do, said after as long a wait as was asked for, as the service does."""
        wait_seconds = float(parse_qs(urlsplit(self.path).query)["wait"][0])
        if self.service.over.wait(wait_seconds):
            self.close_connection = True
        else:
            self._answer(204, "")

    def _answer(self, status: int, text: str) -> None:
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_request(self, *_: Any) -> None:
        """Quiet."""


@contextmanager
def _service() -> Iterator[_Service]:
    service = _Service()
    handler = type("Handler", (_Handler,), {"service": service})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    service.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield service
    finally:
        service.over.set()
        server.shutdown()
        server.server_close()
        thread.join()
