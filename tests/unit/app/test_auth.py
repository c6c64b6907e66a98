"""Tokens: made at the first start, kept private, and never matched by nothing."""

import stat
from pathlib import Path

import pytest

from app.auth import load_credentials
from app.settings import Settings


def test_tokens_are_made_once_and_only_their_owner_can_read_them(tmp_path: Path) -> None:
    home = tmp_path / "home"
    first = load_credentials(Settings(home=home))
    token = (home / "user.token").read_text().strip()
    assert first.is_user(token)
    assert not first.is_joiner(token)
    assert first.is_joiner((home / "join.token").read_text().strip())
    for name in ("user.token", "join.token"):
        assert stat.S_IMODE((home / name).stat().st_mode) == 0o600
    assert load_credentials(Settings(home=home)) == first


def test_an_empty_token_in_the_environment_is_none_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STOWPLAN_USER_TOKEN", "")
    monkeypatch.setenv("STOWPLAN_HOME", str(tmp_path))
    credentials = load_credentials(Settings())
    assert not credentials.is_user("")
    assert credentials.is_user((tmp_path / "user.token").read_text().strip())


def test_a_token_from_the_environment_is_written_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STOWPLAN_USER_TOKEN", "given")
    monkeypatch.setenv("STOWPLAN_JOIN_TOKEN", "given too")
    credentials = load_credentials(Settings(home=tmp_path))
    assert credentials.is_user("given")
    assert list(tmp_path.iterdir()) == []
