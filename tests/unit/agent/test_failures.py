"""What's found of a failure, in outputs as programs and torchrun leave them."""

import json
import os
from pathlib import Path

from agent.output import failures

CHAINED = """\
step 1
Traceback (most recent call last):
  File "train.py", line 3, in load
    open(path)
FileNotFoundError: [Errno 2] No such file or directory: 'data'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "train.py", line 9, in <module>
    load()
RuntimeError: no data:
look in /data
"""
ROOT_CAUSE = """\
torch.distributed.elastic.multiprocessing.errors.ChildFailedError: 
============================================================
train.py FAILED
------------------------------------------------------------
Failures:
[1]:
  time      : 2026-11-22_12:26:54
  host      : localhost
  rank      : 4 (local_rank: 0)
  exitcode  : -15 (pid: 13628)  (SIGTERM)
  error_file: <N/A>
  traceback : Signal 15 (SIGTERM) received by PID 13628
------------------------------------------------------------
Root Cause (first observed failure):
[0]:
  time      : 2026-11-22_12:26:54
  host      : localhost
  rank      : 5 (local_rank: 1)
  exitcode  : {exitcode} (pid: 13629) 
  error_file: <N/A>
  traceback : To enable traceback see: https://pytorch.org/docs/stable/elastic/errors.html
============================================================
"""  # noqa: W291  as torchrun prints it


def found(tmp_path: Path, printed: str | bytes) -> failures.Failure:
    output = tmp_path / "output.log"
    output.write_bytes(printed if isinstance(printed, bytes) else printed.encode())
    return failures.find(output, tmp_path / "ranks")


def rank_file(tmp_path: Path, attempt: int, local_rank: int, name: str, text: str) -> Path:
    path = tmp_path / f"ranks/run_x/attempt_{attempt}/{local_rank}/{name}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_exceptions_that_led_to_each_other_are_one_failure(tmp_path: Path) -> None:
    failure = found(tmp_path, CHAINED)
    assert failure.error == CHAINED.removeprefix("step 1\n").rstrip()
    assert (failure.line, failure.raised) == ("RuntimeError: no data:", True)


def test_a_traceback_long_survived_is_not_the_reason(tmp_path: Path) -> None:
    lines = "".join(f"step {number}\n" for number in range(5_000))
    failure = found(tmp_path, CHAINED + lines)
    assert (failure.line, failure.raised) == ("step 4999", False)
    assert failure.error.splitlines() == [f"step {number}" for number in range(4_960, 5_000)]


def test_of_several_ranks_the_first_that_failed_is_told(tmp_path: Path) -> None:
    printed = (
        "[rank4]: Traceback (most recent call last):\n[rank4]:   File 'a'\n[rank4]: Lost: peer\n"
        "[rank5]: [rank5]: Traceback (most recent call last):\n[rank5]: [rank5]:   File 'b'\n"
        "[rank5]: [rank5]: ValueError: no\nTraceback (most recent call last):\n  File 'torchrun'\n"
    )
    failure = found(tmp_path, printed + ROOT_CAUSE.format(exitcode="1"))
    assert failure.error == "Traceback (most recent call last):\n  File 'b'\nValueError: no"
    assert (failure.rank, failure.line) == (5, "ValueError: no")


def test_a_ranks_own_file_says_more_than_a_flooded_output(tmp_path: Path) -> None:
    rank_file(tmp_path, 0, 1, "stderr.log", "an earlier start\n")
    path = rank_file(tmp_path, 1, 1, "stderr.log", CHAINED)
    os.utime(path, (1_700_000_000.5, 1_700_000_000.5))
    failure = found(tmp_path, "x\n" * 300_000 + ROOT_CAUSE.format(exitcode="1"))
    assert (failure.rank, failure.line) == (5, "RuntimeError: no data:")
    assert failure.at_ms == 1_700_000_000_500


def test_a_rank_that_was_killed_is_told_by_its_signal(tmp_path: Path) -> None:
    failure = found(tmp_path, "[rank5]: step 1\n" + ROOT_CAUSE.format(exitcode="-11"))
    assert (failure.rank, failure.line) == (5, "ended by SIGSEGV")
    assert failure.error == "step 1"


def test_what_torch_recorded_is_taken_and_nonsense_in_its_place_is_not(tmp_path: Path) -> None:
    form = {
        "message": {
            "message": "ValueError: no",
            "extraInfo": {"py_callstack": "Traceback ...\nValueError: no\n", "timestamp": "1"},
        }
    }
    rank_file(tmp_path, 0, 1, "error.json", json.dumps(form))
    printed = ROOT_CAUSE.format(exitcode="1")
    assert found(tmp_path, printed).error == "Traceback ...\nValueError: no\n"
    for nonsense in ("[", "[]", '{"message": 7}', '{"message": {"message": "\\u0000"}}', "\x00"):
        rank_file(tmp_path, 0, 1, "error.json", nonsense)
        assert found(tmp_path, printed).error.startswith("Root Cause"), nonsense


def test_no_link_of_a_task_is_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("Traceback (most recent call last):\n  File\nSecret: x\n")
    path = rank_file(tmp_path, 0, 1, "stderr.log", "")
    path.unlink()
    path.symlink_to(secret)
    assert "Secret" not in found(tmp_path, ROOT_CAUSE.format(exitcode="1")).error
    path.unlink()
    os.link(secret, path)
    assert "Secret" not in found(tmp_path, ROOT_CAUSE.format(exitcode="1")).error
    path.unlink()
    os.mkfifo(path)
    assert "Secret" not in found(tmp_path, ROOT_CAUSE.format(exitcode="1")).error


def test_an_error_is_bounded_and_for_people(tmp_path: Path) -> None:
    failure = found(
        tmp_path,
        b"Traceback (most recent call last):\n  \x1b[31mFile\x1b[0m\x00\xff\n" + b"E" * 200_000,
    )
    assert len(failure.error) <= 65_536
    assert not {"\x1b", "\x00"} & set(failure.error)
    assert len(failure.line) <= 300


def test_without_output_there_is_nothing_to_tell(tmp_path: Path) -> None:
    failure = failures.find(tmp_path / "absent", tmp_path / "ranks")
    assert (failure.line, failure.error) == ("", "")
