"""Which server and token: what was said, the environment, this machine's home, the default."""

from pathlib import Path

import pytest

from client.connection import DEFAULT_SERVER, resolve_server, resolve_token


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STOWPLAN_HOME", str(tmp_path))
    monkeypatch.delenv("STOWPLAN_SERVER", raising=False)
    monkeypatch.delenv("STOWPLAN_TOKEN", raising=False)
    return tmp_path


def test_without_anything_the_default_server_and_no_token_are_used() -> None:
    assert resolve_server() == DEFAULT_SERVER
    assert resolve_token() is None


def test_files_of_a_local_service_are_used(home: Path) -> None:
    (home / "server.url").write_text("http://127.0.0.1:9000\n")
    (home / "user.token").write_text("from-file\n")
    assert resolve_server() == "http://127.0.0.1:9000"
    assert resolve_token() == "from-file"


def test_environment_stands_above_the_files(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "server.url").write_text("http://127.0.0.1:9000\n")
    (home / "user.token").write_text("from-file\n")
    monkeypatch.setenv("STOWPLAN_SERVER", "http://env:1")
    monkeypatch.setenv("STOWPLAN_TOKEN", "from-env")
    assert resolve_server() == "http://env:1"
    assert resolve_token() == "from-env"


def test_what_is_said_stands_above_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOWPLAN_SERVER", "http://env:1")
    monkeypatch.setenv("STOWPLAN_TOKEN", "from-env")
    assert resolve_server("http://said:2") == "http://said:2"
    assert resolve_token("said") == "said"
