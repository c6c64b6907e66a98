"""As whom tasks run. An agent that is root gives its tasks another account, or says why it mustn't
run them."""

import ipaddress
import os
import pwd
import stat
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit


class UnknownAccountError(Exception):
    """There is no such account on this node, or tasks may not have it."""


class RootTasks(StrEnum):
    """Whether tasks may run as root, on an agent that is root and was given no account for them."""

    LOCAL = "local"
    """When the service is on this very machine: whoever may submit is its owner."""
    ALLOW = "allow"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A user of this machine, with all the groups that it's in (video and render let it reach the
    devices)."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str

    def environment(self) -> dict[str, str]:
        """What a login would say of it."""
        return {"HOME": self.home, "USER": self.name}


def find(name: str) -> Account:
    """The account of this name.

    Raises:
        UnknownAccountError: there is none.
    """
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise UnknownAccountError(f"this node has no account {name!r} to run tasks as") from None
    return Account(
        name=name,
        uid=entry.pw_uid,
        gid=entry.pw_gid,
        groups=tuple(sorted({entry.pw_gid, *os.getgrouplist(name, entry.pw_gid)})),
        home=entry.pw_dir or "/",
    )


def account_for_tasks(name: str | None, *, own_uid: int) -> Account | None:
    """As whom tasks are to run; None: as the agent itself.

    Raises:
        UnknownAccountError: nobody has that name, or this agent can't run tasks as them.
    """
    if name is None:
        return None
    account = find(name)
    if account.uid == own_uid:
        return None
    if own_uid != 0:
        raise UnknownAccountError(
            f"only an agent that is root can run tasks as {name!r}: this one is uid {own_uid}"
        )
    return account


def refusal(
    account: Account | None, root_tasks: RootTasks, *, own_uid: int, server: str
) -> str | None:
    """Why no task may be started as it is; None: nothing is against it."""
    if own_uid != 0 or account is not None or root_tasks is RootTasks.ALLOW:
        return None
    if root_tasks is RootTasks.LOCAL and is_loopback(server):
        return None
    return (
        "the agent of this node is root and would run the task as root: name an account for tasks"
        " (STOWPLAN_AGENT_TASK_ACCOUNT), run the agent as another user, or allow it"
        " (STOWPLAN_AGENT_ROOT_TASKS=allow)"
    )


def is_loopback(server: str) -> bool:
    """Whether an address of a service is this machine's own, and nobody else's."""
    host = urlsplit(server).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def closed_to(account: Account, path: Path) -> Path | None:
    """The first directory on the way to a path that an account may not pass, by its mode."""
    for folder in reversed((path / "x").parents):
        try:
            status = folder.stat()
        except OSError:
            return folder
        if status.st_uid == account.uid:
            passes = status.st_mode & stat.S_IXUSR
        elif status.st_gid in account.groups:
            passes = status.st_mode & stat.S_IXGRP
        else:
            passes = status.st_mode & stat.S_IXOTH
        if not passes:
            return folder
    return None
