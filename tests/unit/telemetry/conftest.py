from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from telemetry.probes.base import DeviceReading
from telemetry.probes.nvidia_process import NvidiaProcess
from telemetry.samples import DeviceEvent
from tests.nvml.build import build


class Clock:
    """The agent's clock, which its NVML process goes by as well."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.step = 0.0
        """By how much each look at it makes it later, so that a deadline passes without a wait."""

    def __call__(self) -> float:
        self.now += self.step
        return self.now


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _built(tmp_path_factory, old_driver=False)


@pytest.fixture(scope="session")
def old_nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _built(tmp_path_factory, old_driver=True)


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the stand-in NVML does; see :func:`tests.nvml.build.write_script`."""
    path = tmp_path / "world"
    monkeypatch.setenv("STANDIN_NVML_SCRIPT", str(path))
    return path


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def probe(nvml_library: Path, script: Path, clock: Clock) -> Iterator[NvidiaProcess]:
    # However busy this machine is, a reading is waited for.
    probe = NvidiaProcess(
        library=nvml_library, deadline_seconds=120, wait_seconds=120, boot_seconds=clock
    )
    yield probe
    probe.close()


def read_until(
    probe: NvidiaProcess, good: Callable[[DeviceReading, list[DeviceEvent]], bool]
) -> tuple[DeviceReading, list[DeviceEvent]]:
    """Read until it's as it should become; the last reading, and the events of them all."""
    events: list[DeviceEvent] = []
    while True:
        reading = probe.read()
        events += reading.events
        if good(reading, events):
            return reading, events


def _built(tmp_path_factory: pytest.TempPathFactory, *, old_driver: bool) -> Path:
    try:
        return build(tmp_path_factory.mktemp("nvml"), old_driver=old_driver)
    except FileNotFoundError as error:
        pytest.skip(str(error))
