from pathlib import Path
from typing import Any

import pytest

from agent import endings


def form(**changes: Any) -> dict[str, Any]:
    whole = {
        "code": None,
        "signal": None,
        "stopped": False,
        "lost": False,
        "reason": "",
        "at_ms": 1,
    }
    return {**whole, **changes}


@pytest.mark.parametrize(
    ("changes", "output", "reason"),
    [
        ({"code": 0}, "all well\n", ""),
        ({"code": 1}, "", "exited with code 1"),
        ({"code": 1}, "a\nValueError: no\n\n", "exited with code 1; its last line: ValueError: no"),
        ({"code": 1}, "\x1b[31mred\x1b[0m\x00\n", "exited with code 1; its last line: red"),
        ({"signal": 15}, "", "killed by SIGTERM"),
        ({"signal": 9}, "", "killed by SIGKILL, by the kernel when memory ran out or by somebody"),
        ({"signal": 63}, "", "killed by signal 63"),
        (
            {"signal": 9, "oom": True},
            "",
            "killed by the kernel: it used more than its 512 MiB of memory (memory_mib)",
        ),
        (
            {"code": 1},
            "Traceback (most recent call last):\n  File 'a'\nValueError: no\nbye\n",
            "exited with code 1: ValueError: no",
        ),
        ({"code": 1, "stopped": True, "reason": "preempted"}, "x\n", "preempted"),
    ],
)
def test_the_reason_is_in_words(
    tmp_path: Path, changes: dict[str, Any], output: str, reason: str
) -> None:
    log = tmp_path / "output.log"
    log.write_text(output)
    assert (
        endings.describe(form(**changes), log, tmp_path / "ranks", memory_mib=512).reason == reason
    )


def test_a_huge_last_line_is_cut(tmp_path: Path) -> None:
    log = tmp_path / "output.log"
    log.write_bytes(b"\xff" * 100_000)
    assert 0 < len(endings.last_line(log)) <= 300


def test_without_output_there_is_no_last_line(tmp_path: Path) -> None:
    assert endings.last_line(tmp_path / "absent") == ""


def test_a_lost_attempt_has_neither_code_nor_signal(tmp_path: Path) -> None:
    how = endings.describe(
        endings.lost("rebooted", at_ms=5), tmp_path / "absent", tmp_path / "ranks"
    )
    assert (how.lost, how.code, how.signal, how.reason) == (True, None, None, "rebooted")
