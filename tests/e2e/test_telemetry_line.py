"""The telemetry line as a person has it: serve, an agent on a machine with GPUs (which the stand-in
NVML plays), top, events; and a service that is killed and comes back."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.command import Installation
from tests.nvml.build import DRIVER, GPU_0, GPU_1, build, write_script
from tests.waiting import wait_for

WATCHED = tuple(f"{gpu} events=264" for gpu in (GPU_0, GPU_1))
"""Two H100, which tell their Xids; the first is used at 37 %."""
SECONDS = 60.0


@pytest.fixture
def line(installation: Installation, tmp_path: Path, postgres_database: str) -> "Line":
    try:
        library = build(tmp_path)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    return Line(installation, library, tmp_path / "world", postgres_database)


class Line:
    """One service and one node, measured and reported far more often than anybody would.

    On PostgreSQL, where no key of the table would hide a row that's stored twice.
    """

    def __init__(
        self, installation: Installation, library: Path, world: Path, database_url: str
    ) -> None:
        self.installation = installation
        self._world = world
        self._database_url = database_url
        write_script(world, *DRIVER, *WATCHED)
        installation.environment |= {
            "STOWPLAN_DATABASE_URL": database_url,
            "STOWPLAN_SAMPLES_INTERVAL_SECONDS": "0.5",
            "STANDIN_NVML_SCRIPT": str(world),
        }
        self.service = installation.serve()
        installation.start(
            *("node-a", "agent", "--name", "node-a", "--sample-interval", "0.1"),
            *("--nvml-library", str(library), "--state-dir", str(installation.root / "node-a")),
        )

    def play(self, *lines: str) -> None:
        write_script(self._world, *DRIVER, *WATCHED, *lines)

    def kill_service(self) -> int:
        port = self.installation.port
        self.service.kill()
        self.service.wait()
        return port

    def rows(self) -> int:
        """Rows of devices, each of which must be there once."""
        [(rows, distinct)] = self._asked(
            "SELECT count(*), count(DISTINCT (taken_at_ms, series_id)) FROM device_samples"
        )
        assert rows == distinct
        return rows

    def batches(self) -> list[tuple[int, int]]:
        """The stretches of the batches that are stored, of the agent's only run."""
        [(ranges,)] = self._asked("SELECT ranges FROM received_batches")
        return [(first, last) for first, last in json.loads(ranges)]

    def _asked(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self._database_url) as connection:
            return connection.execute(query).fetchall()

    def spooled_bytes(self) -> int:
        """What of the node's measurements is on its disk, for want of a service."""
        files = (self.installation.root / "node-a" / "samples").rglob("*")
        return sum(path.stat().st_size for path in files if path.is_file())

    def xids(self) -> list[str]:
        """What the service has recorded of the GPUs' own word."""
        events = self.installation.ask("events")
        return [one["message"] for one in events if one["kind"] == "device_event"]

    def until(self, fact: Callable[[], bool], what: str) -> None:
        wait_for(fact, what, SECONDS)


def test_what_gpus_do_is_seen_and_an_outage_neither_loses_nor_doubles_a_row(line: Line) -> None:
    def utilizations() -> list[float | None]:
        nodes = line.installation.ask("top", "--once")
        return [device["utilization_percent"] for node in nodes for device in node["devices"]]

    line.until(lambda: utilizations() == [37, 0], "top shows what the GPUs do")
    line.play("xid 0 79")
    line.until(lambda: len(line.xids()) == 1, "the Xid is an event")
    line.play()

    line.until(lambda: line.rows() > 10, "rows arrive")
    port = line.kill_service()
    line.play("xid 1 79")
    line.until(lambda: line.spooled_bytes() > 4_000, "the node keeps what it measures")
    [(_, before)] = line.batches()
    line.service = line.installation.serve(port)

    def drained() -> bool:
        stretches = line.batches()
        assert line.rows() > 0
        return len(stretches) == 1 and stretches[0][0] == 1 and stretches[0][1] > before + 5

    line.until(drained, "every batch from the first to the newest is there")
    line.until(lambda: line.spooled_bytes() == 0, "nothing is left on the node's disk")
    line.until(lambda: len(line.xids()) == 2, "so is what happened meanwhile")
    quarantined = {(one["index"], one["code"]) for one in line.installation.ask("quarantines")}
    assert quarantined == {(0, "xid"), (1, "xid")}
