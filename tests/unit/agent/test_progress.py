"""What programs tell of themselves, and what they could put there instead."""

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from agent import progress
from agent.events import Key
from protocol.report import Progress

KEY = Key(id="a1", generation=3)
WHOLE = {
    "step": 1200,
    "steps": 5000,
    "checkpoint_step": 1000,
    "checkpoint_at_ms": 1_700_000_000_000,
    "checkpoint_seconds": 6.25,
}


def tell(control: Path, content: bytes | dict[str, Any]) -> Progress | None:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    (control / "progress.json").write_bytes(data)
    return progress.read(KEY, control)


def test_all_that_a_program_tells_is_read(tmp_path: Path) -> None:
    assert tell(tmp_path, WHOLE) == Progress(id="a1", generation=3, **WHOLE)


def test_a_program_that_tells_nothing_is_left_out(tmp_path: Path) -> None:
    assert progress.read(KEY, tmp_path) is None
    assert progress.read(KEY, tmp_path / "gone") is None
    assert tell(tmp_path, {}) is None


def test_each_number_stands_for_itself(tmp_path: Path) -> None:
    assert tell(tmp_path, {"step": 7}) == Progress(id="a1", generation=3, step=7)
    found = tell(tmp_path, {"step": 7, "steps": None, "loss": 0.1})
    assert found == Progress(id="a1", generation=3, step=7)


@pytest.mark.parametrize(
    "bad", [-1, 2**53 + 1, 10**400, 1.5, True, "9", [9], {"a": 9}, float("nan")]
)
def test_what_is_no_number_in_range_is_left_out_and_the_rest_is_taken(
    tmp_path: Path, bad: object
) -> None:
    found = tell(tmp_path, {"step": bad, "steps": 9, "checkpoint_step": bad})
    assert found == Progress(id="a1", generation=3, steps=9)


def test_a_program_cannot_speak_for_another(tmp_path: Path) -> None:
    found = tell(tmp_path, {"id": "a2", "generation": 9, "step": 1})
    assert found == Progress(id="a1", generation=3, step=1)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe\x00",
        b"[" * 4096,
        b'{"step":' * 500,
        b'{"step": 1' + b" " * 5000 + b"}",
        b'{"step": ' + b"9" * 4000 + b"}",
    ],
)
def test_what_is_no_small_json_object_is_nothing(tmp_path: Path, content: bytes) -> None:
    assert tell(tmp_path, content) is None


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    control, secret = tmp_path / "control", tmp_path / "secret.json"
    secret.write_text('{"step": 1}')
    control.mkdir()
    (control / "progress.json").symlink_to(secret)
    assert progress.read(KEY, control) is None


def test_a_control_directory_that_became_a_link_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "progress.json").write_text('{"step": 1}')
    (tmp_path / "control").symlink_to(elsewhere)
    assert progress.read(KEY, tmp_path / "control") is None


def test_a_pipe_a_socket_a_directory_and_a_device_block_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    file = tmp_path / "progress.json"
    os.mkfifo(file)
    assert progress.read(KEY, tmp_path) is None
    file.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("progress.json")
        assert progress.read(KEY, tmp_path) is None
    file.unlink()
    file.mkdir()
    assert progress.read(KEY, tmp_path) is None
    file.rmdir()
    if os.geteuid() == 0:
        os.mknod(file, 0o020666, os.makedev(1, 5))  # /dev/zero
        assert progress.read(KEY, tmp_path) is None


def test_nothing_stays_open(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for content in (b"{}", b"[" * 5000, json.dumps(WHOLE).encode()):
        tell(tmp_path, content)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_those_that_tell_are_told_of(tmp_path: Path) -> None:
    keys = [Key(id=f"a{number}", generation=1) for number in range(3)]
    for key in keys:
        (tmp_path / key.id).mkdir()
    (tmp_path / "a1" / "progress.json").write_text('{"step": 5}')
    found = progress.told((key, tmp_path / key.id) for key in keys)
    assert found == (Progress(id="a1", generation=1, step=5),)
