"""As whom tasks run."""

import pwd
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.confining.accounts import (
    RootTasks,
    UnknownAccountError,
    account_for_tasks,
    closed_to,
    find,
    is_loopback,
    refusal,
)

LOCAL = "http://127.0.0.1:8470"
REMOTE = "https://stowplan.example:8470"
NOBODY = find("nobody")


@pytest.mark.parametrize(
    ("root_tasks", "server", "allowed"),
    [
        (RootTasks.LOCAL, LOCAL, True),
        (RootTasks.LOCAL, REMOTE, False),
        (RootTasks.ALLOW, REMOTE, True),
        (RootTasks.REFUSE, LOCAL, False),
    ],
)
def test_root_runs_tasks_as_root_only_for_its_own_machine_or_when_allowed(
    root_tasks: RootTasks, server: str, allowed: bool
) -> None:
    reason = refusal(None, root_tasks, own_uid=0, server=server)
    assert (reason is None) is allowed
    if reason is not None:
        assert "STOWPLAN_AGENT_TASK_ACCOUNT" in reason
        assert "STOWPLAN_AGENT_ROOT_TASKS" in reason


def test_nothing_is_refused_to_tasks_that_are_not_root() -> None:
    assert refusal(NOBODY, RootTasks.REFUSE, own_uid=0, server=REMOTE) is None
    assert refusal(None, RootTasks.REFUSE, own_uid=1000, server=REMOTE) is None


@pytest.mark.parametrize(
    ("server", "loopback"),
    [
        ("http://127.0.0.1:8470", True),
        ("http://127.9.9.9", True),
        ("http://[::1]:8470", True),
        ("http://localhost", True),
        ("http://10.0.0.1:8470", False),
        ("http://127.0.0.1.example.com", False),
        ("http://localhost.example.com", False),
        ("http://[fe80::1]", False),
    ],
)
def test_only_this_machine_itself_is_local(server: str, loopback: bool) -> None:
    assert is_loopback(server) is loopback


def test_an_account_has_its_groups_and_home() -> None:
    entry = pwd.getpwnam("nobody")
    assert (NOBODY.uid, NOBODY.gid) == (entry.pw_uid, entry.pw_gid)
    assert entry.pw_gid in NOBODY.groups
    assert NOBODY.environment() == {"HOME": entry.pw_dir, "USER": "nobody"}


def test_an_account_that_does_not_exist_is_said_so() -> None:
    with pytest.raises(UnknownAccountError, match="no account 'stowplan-nowhere'"):
        account_for_tasks("stowplan-nowhere", own_uid=0)


def test_only_root_can_give_tasks_another_account_than_its_own() -> None:
    assert account_for_tasks("nobody", own_uid=0) == NOBODY
    assert account_for_tasks("nobody", own_uid=NOBODY.uid) is None
    with pytest.raises(UnknownAccountError, match="only an agent that is root"):
        account_for_tasks("nobody", own_uid=1000)
    assert account_for_tasks(None, own_uid=0) is None


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A directory that everybody may pass: pytest's own are closed to others."""
    with tempfile.TemporaryDirectory(prefix="accounts-") as folder:
        path = Path(folder)
        path.chmod(0o711)
        yield path


def test_a_directory_that_an_account_may_not_pass_is_named(open_path: Path) -> None:
    inner = open_path / "closed/inner"
    inner.mkdir(parents=True)
    for folder in (inner.parent, inner):
        folder.chmod(0o711)
    assert closed_to(NOBODY, inner) is None
    inner.parent.chmod(0o700)
    assert closed_to(NOBODY, inner) == inner.parent
    assert closed_to(NOBODY, inner / "missing") == inner.parent
