"""A shim on a disk that is full, or takes no file: no exit code is lost, and nothing runs that
nobody knows of."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

import pytest

from tests.full_disk import no_file_beyond
from tests.shim_bench import KEY, Bench, sh, shim_bench
from tests.waiting import wait_for


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with shim_bench(tmp_path) as bench:
        yield bench


@pytest.fixture
def small_bench(tmp_path: Path) -> Iterator[Bench]:
    """On a disk of its own that is full soon."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("no right to mount a small disk")
    try:
        with shim_bench(disk) as bench:
            yield bench
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return


def test_an_exit_is_kept_until_it_can_be_written(bench: Bench, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    bench.intend(*sh(f"echo up; cat {gate}; exit 3"))
    child = bench.launch(stderr=subprocess.PIPE)
    bench.wait_for_output("up")
    with no_file_beyond(0, child.pid):
        gate.write_text("")
        complaint = cast("IO[bytes]", child.stderr).readline()
        assert b"can't write exit.json (trying on): File too large" in complaint
        assert bench.spool.exit(KEY) is None
        assert bench.spool.is_locked(KEY)
    assert bench.end(child)["code"] == 3
    cast("IO[bytes]", child.stderr).close()


def test_a_program_that_fills_the_disk_takes_no_room_from_its_exit(small_bench: Bench) -> None:
    flood = f"cat /dev/zero > {small_bench.spool.root}/much; exit 7"
    form = small_bench.run(*sh(flood))
    assert os.statvfs(small_bench.spool.root).f_bavail == 0
    assert form["code"] == 7


def test_a_program_that_floods_its_log_takes_no_room_from_its_exit(small_bench: Bench) -> None:
    form = small_bench.run(*sh("cat /dev/zero; exit 9"))
    assert os.statvfs(small_bench.spool.root).f_bavail == 0
    assert form["code"] == 9


def test_nothing_starts_on_a_full_disk_and_the_reason_comes_when_there_is_room(
    small_bench: Bench,
) -> None:
    small_bench.intend(*sh("touch /tmp/never-there; echo ran"))
    full = small_bench.spool.root / "much"
    fill(full)
    child = small_bench.launch(stderr=subprocess.PIPE)
    complaint = cast("IO[bytes]", child.stderr).readline()
    assert b"No space left on device" in complaint
    full.unlink()
    form = small_bench.end(child)
    assert form["reason"] == "can't start it on this node: No space left on device"
    assert (form["code"], small_bench.output()) == (None, "")
    cast("IO[bytes]", child.stderr).close()


def test_a_program_whose_identity_cannot_be_written_never_runs(bench: Bench) -> None:
    bench.intend(*sh("echo ran"))
    (bench.directory / "running.json.new").mkdir()
    form = bench.end(bench.launch())
    assert form["reason"] == "not started: can't write down who runs: Is a directory"
    assert (form["code"], form["signal"], bench.output()) == (None, None, "")


def test_a_shim_whose_attempt_was_forgotten_does_not_try_for_ever(
    bench: Bench, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    child = bench.start(*sh(f"echo up; cat {gate}; exit 3"))
    bench.spool.forget(KEY)
    gate.write_text("")
    wait_for(lambda: child.poll() == 0, "the shim has ended")
