"""A test run that leaves a process behind fails, and names it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFTEST = """
from tests.leftovers import Leftovers

def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Leftovers(0.5), "leftovers")
"""
TESTS = """
import os, subprocess

def test_that_leaves_what_inherits_the_mark():
    child = subprocess.Popen(["sleep", "600"], start_new_session=True)
    print(child.pid, file=open(os.environ["PIDS"], "a"))
    child.returncode = 0

def test_that_leaves_what_knows_its_folder_only(tmp_path):
    words = ["sh", "-c", f"sleep 600; echo {tmp_path}"]
    child = subprocess.Popen(words, start_new_session=True, env={})
    print(child.pid, file=open(os.environ["PIDS"], "a"))
    child.returncode = 0
"""


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_run_that_leaves_processes_behind_fails_and_names_them(
    tmp_path: Path, workers: str
) -> None:
    pids = tmp_path / "pids"
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_planted.py").write_text(TESTS)
    try:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
                *("-n", workers, "--rootdir", str(tmp_path), str(tmp_path)),
            ],
            cwd=ROOT,
            env={**os.environ, "PIDS": str(pids)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    finally:
        # The shell has a child, which goes with its group.
        for pid in pids.read_text().split():
            os.killpg(int(pid), signal.SIGKILL)
    assert "2 passed" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 1
    left = done.stdout.partition("left behind")[2]
    assert "sleep 600 (" in left
    assert "sleep 600; echo" in left
    assert "test_that_leaves_what_knows_it" in left
