"""Attempts that publish at once and are killed at any moment: real processes, many times."""

import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.training import latest_in
from tests.training import MODULE


@pytest.fixture
def in_memory(tmp_path: Path) -> Iterator[Path]:
    """Thousands of files that needn't reach a disk."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else tmp_path) as folder:
        yield Path(folder)


RACE = """
import os, random, sys, time
sys.path.insert(0, sys.argv[1])
import training
folder, tries, seed = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
choose = random.Random(seed)


def attempt(generation, work):
    pid = os.fork()
    if pid:
        return pid
    code = 99
    try:
        os.environ["STOWPLAN_GENERATION"] = str(generation)
        code = work()
    finally:
        os._exit(code)


def publish(run, step):
    with run.saving(step) as path:
        path.write_text(f"{run.generation} {step}")


def own(path, generation):
    return {name for name in os.listdir(path) if name.startswith(f"g{generation:010d}-")}


fenced = 0
for number in range(tries):
    path = os.path.join(folder, str(number))
    begun, begin = os.pipe()
    pause = choose.uniform(0, 0.002)

    def older():
        run = training.Training(path)
        os.write(begin, b"x")
        step = 0
        try:
            while True:
                step += 1
                publish(run, step)
        except training.StaleGenerationError:
            return 7

    def newer():
        os.read(begun, 1)
        time.sleep(pause)
        run = training.Training(path)
        at_claim = own(path, 1)
        publish(run, 1)
        later = own(path, 1)
        found = training.latest_in(path)
        return 0 if later <= at_claim and found.generation == 2 else 1

    pids = [attempt(1, older), attempt(2, newer)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    assert codes == [7, 0], (number, codes)
    found = training.latest_in(path)
    assert (found.generation, found.step) == (2, 1), (number, found)
    assert found.path.read_text() == "2 1"
    assert open(os.path.join(path, "latest")).read().startswith("g0000000002-")
    fenced += bool(own(path, 1))
    os.close(begun)
    os.close(begin)
print(fenced)
"""


def test_of_two_attempts_that_publish_at_once_the_older_never_wins(
    tmp_path: Path, in_memory: Path
) -> None:
    script = tmp_path / "race.py"
    script.write_text(RACE)
    (tmp_path / "training.py").write_bytes(MODULE.read_bytes())
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(script), str(tmp_path), str(in_memory), "1000", "7"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 200, "in too few tries the older one had published anything"


KILLED = """
import sys
sys.path.insert(0, sys.argv[1])
import training
run = training.Training(sys.argv[2])
found = run.latest()
step = found.step if found else 0
while True:
    step += 1
    with run.saving(step) as path:
        with path.open("w") as file:
            for _ in range(200):
                file.write(f"{step}\\n" * 20)
                file.flush()
    print(step, flush=True)
"""


def test_a_kill_at_any_moment_leaves_a_whole_checkpoint_to_go_on_from(tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    (tmp_path / "training.py").write_bytes(MODULE.read_bytes())
    folder, reached = tmp_path / "c", 0
    torn = 0
    for life in range(1, 31):
        with subprocess.Popen(
            [sys.executable, "-I", "-S", str(script), str(tmp_path), str(folder)],
            stdout=subprocess.PIPE,
            env={"STOWPLAN_GENERATION": str(life)},
            text=True,
        ) as program:
            assert program.stdout is not None
            for _ in range(1 + life % 3):
                reached = int(program.stdout.readline())
            threading.Event().wait(0.0004 * (life % 10))  # the moment is the point of it
            program.kill()
        torn += any(folder.glob(".saving-*"))
        found = latest_in(folder)
        assert found is not None
        assert found.step >= reached
        assert found.path.read_text() == f"{found.step}\n" * 4000
        reached = found.step
    assert torn > 5, "it was hardly ever killed while it wrote"
