"""What measuring costs: by this process and children of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from telemetry.probes.own_cost import OwnCostReader
from tests.waiting import wait_for

MIB = 1 << 20
PROGRAM = f"held = b'x' * (64 * {MIB}); print(flush=True); input()"


@contextmanager
def child(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    """One that holds 64 MiB, until its input ends."""
    command = [sys.executable, "-c", PROGRAM, *words]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.stdin.close()


def memory_mib(reader: OwnCostReader) -> float:
    cost = reader.read()
    assert cost is not None
    return cost.memory_mib


@pytest.mark.parametrize(
    ("words", "counts"),
    [
        pytest.param(("-m", "telemetry.probes.nvidia_process"), True, id="one that measures"),
        pytest.param(("agent/shim.py", "spool"), False, id="a shim, with a task below it"),
    ],
)
def test_only_children_that_measure_count(words: tuple[str, ...], counts: bool) -> None:
    reader = OwnCostReader(Path("/"))
    before = memory_mib(reader)
    with child(*words):
        assert (memory_mib(reader) > before + 60) is counts


def test_cpu_time_of_a_child_that_ended_stays() -> None:
    reader = OwnCostReader(Path("/"))
    with ExitStack() as ends:
        ends.enter_context(child("-m", "telemetry.one"))
        with_child = reader.read()
    without = reader.read()
    assert with_child is not None
    assert without is not None
    assert without.cpu_seconds >= with_child.cpu_seconds
    assert without.memory_mib < with_child.memory_mib - 60


def test_own_time_is_that_of_the_kernel_for_this_process() -> None:
    def close() -> bool:
        times, cost = os.times(), OwnCostReader(Path("/")).read()
        assert cost is not None
        return abs(cost.cpu_seconds - times.user - times.system) < 0.1

    wait_for(close, "the two to be read at nearly the same moment")


def test_machine_that_does_not_show_this_process_leaves_it_unknown(tmp_path: Path) -> None:
    assert OwnCostReader(tmp_path).read() is None
