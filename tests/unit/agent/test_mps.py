"""An MPS control daemon is one that listens, and belongs to somebody we trust."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.devices.mps import pipe_directory


@pytest.fixture(params=[socket.SOCK_SEQPACKET, socket.SOCK_STREAM])
def daemon(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, request.param) as listener:
        listener.bind(str(tmp_path / "control"))
        listener.listen(1)
        listener.setblocking(False)
        yield listener


def test_a_daemon_that_listens_is_there_and_is_not_disturbed(
    daemon: socket.socket, tmp_path: Path
) -> None:
    assert pipe_directory(str(tmp_path), "GPU-a") == str(tmp_path)
    with pytest.raises(BlockingIOError):
        daemon.accept()


def test_a_daemon_that_has_died_is_gone_though_its_socket_stays(
    daemon: socket.socket, tmp_path: Path
) -> None:
    daemon.close()
    assert (tmp_path / "control").exists()
    assert pipe_directory(str(tmp_path), "GPU-a") is None


def test_a_daemon_may_serve_one_device(daemon: socket.socket, tmp_path: Path) -> None:
    template = f"{tmp_path.parent}/{{uuid}}"
    assert pipe_directory(template, tmp_path.name) == str(tmp_path)
    assert pipe_directory(template, "GPU-b") is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_socket_of_anybody_is_not_believed(daemon: socket.socket, tmp_path: Path) -> None:
    os.chown(tmp_path / "control", 65_534, 65_534)
    assert pipe_directory(str(tmp_path), "GPU-a") is None


def test_a_file_or_a_path_too_long_is_no_daemon(tmp_path: Path) -> None:
    (tmp_path / "control").touch()
    assert pipe_directory(str(tmp_path), "GPU-a") is None
    deep = tmp_path / ("d" * 200)
    deep.mkdir()
    (deep / "control").touch()
    assert pipe_directory(str(deep), "GPU-a") is None
