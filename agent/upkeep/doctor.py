"""`stowplan agent doctor`: whether this machine is fit to be a node, what is missing, and how to
mend it. Looks, and changes nothing: also beside an agent that runs.
"""

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

import httpx2

from agent.confining.accounts import is_loopback
from agent.confining.cgroups import left_of
from agent.processes import lock_holder, marked_below
from agent.runtime import MARK
from agent.settings import AgentSettings
from agent.upkeep import machine
from agent.upkeep.checkup import Finding, fail, ok, warn

_REQUEST_SECONDS = 5.0
_SKEW_SECONDS = 2.0
_FREE_WARN_MIB, _FREE_FAIL_MIB = 2_048, 64
_MIB = 1 << 20


def examine(settings: AgentSettings) -> list[Finding]:
    """All checks, in the order in which a person would mend them."""
    state_dir = settings.state_directory()
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        machine.python,
        lambda: _state_dir(state_dir),
        lambda: _service(settings, state_dir),
        lambda: machine.accounts(settings, state_dir),
        lambda: machine.devices(settings),
        lambda: machine.torch(settings),
        machine.control_groups,
        machine.resource_limits,
        machine.swap,
        machine.ports,
        lambda: _leftovers(state_dir),
        lambda: machine.systemd(lock_holder(state_dir / "agent.lock")),
    )
    found: list[Finding] = []
    for check in checks:
        try:
            found += check()
        except Exception as error:  # noqa: BLE001  one check that fails costs no other
            name = getattr(check, "__name__", "check")
            found.append(warn(name, f"could not be checked: {error}", "please report this"))
    return found


def _state_dir(state_dir: Path) -> Iterator[Finding]:
    what = "state directory"
    if not state_dir.exists():
        above = next(path for path in state_dir.parents if path.exists())
        if os.access(above, os.W_OK | os.X_OK):
            yield ok(what, f"{state_dir} will be made at the first start")
        else:
            mend = "give --state-dir, or make it and give it to the agent's account"
            yield fail(what, f"{state_dir} isn't there, and {above} can't be written", mend)
        return
    status = state_dir.stat()
    if status.st_uid != os.geteuid():
        yield fail(
            what,
            f"{state_dir} belongs to uid {status.st_uid}, not to {os.geteuid()}",
            f"run this as the agent's account, or chown -R {os.geteuid()} {state_dir}",
        )
        return
    if not os.access(state_dir, os.R_OK | os.W_OK | os.X_OK):
        yield fail(what, f"{state_dir} can't be written", f"chmod u+rwx {state_dir}")
        return
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o066:
        mend = f"chmod go-rw {state_dir}"
        yield warn(what, f"{state_dir} has mode {mode:04o}: others may look into it", mend)
    pid = lock_holder(state_dir / "agent.lock")
    used = f", used by the agent with pid {pid}" if pid is not None else ", no agent runs on it"
    yield ok(what, f"{state_dir}, mode {mode:04o}{used}")
    free_mib = shutil.disk_usage(state_dir).free // _MIB
    mend = "make room: logs, measurements and intents are written there"
    if free_mib < _FREE_FAIL_MIB:
        yield fail("disk", f"{free_mib} MiB are free at {state_dir}", mend)
    elif free_mib < _FREE_WARN_MIB:
        yield warn("disk", f"{free_mib} MiB are free at {state_dir}", mend)
    else:
        yield ok("disk", f"{free_mib / 1024:.1f} GiB are free at {state_dir}")


def _service(settings: AgentSettings, state_dir: Path) -> Iterator[Finding]:
    server = settings.server.rstrip("/")
    if urlsplit(server).scheme != "https" and not is_loopback(server):
        mend = "put TLS in front of the service and give an https:// address"
        yield warn("encryption", f"tokens travel to {server} in the clear", mend)
    token = _own_token(state_dir)
    try:
        with httpx2.Client(
            base_url=server, timeout=httpx2.Timeout(_REQUEST_SECONDS), trust_env=False
        ) as http:
            before = datetime.now(UTC)
            answer = http.get("/healthz")
            yield from _answered(server, answer, before, datetime.now(UTC))
            yield from _release(http)
            yield from _membership(http, token, settings)
    except httpx2.HTTPError as error:
        said = f"{type(error).__name__}: {error}".rstrip(": ")
        yield fail(
            "service",
            f"{server} isn't reached: {said}",
            "is `stowplan serve` running, does a firewall keep the port, is --server right?",
        )
        yield _token_alone(token, settings)


def _answered(
    server: str, answer: httpx2.Response, before: datetime, after: datetime
) -> Iterator[Finding]:
    if answer.status_code >= 500:
        mend = "see the service's log"
        yield fail("service", f"{server} answers {answer.status_code}", mend)
        return
    yield ok("service", f"{server} answers in {(after - before).total_seconds() * 1000:.0f} ms")
    said = answer.headers.get("Date")
    if said is None:
        return
    middle = before + (after - before) / 2
    # The header is cut to whole seconds.
    skew = (parsedate_to_datetime(said) - middle).total_seconds() + 0.5
    if abs(skew) > _SKEW_SECONDS:
        mend = "run an NTP client on both: times in logs and charts don't agree; leases don't mind"
        yield warn("clock", f"the service's clock is {skew:+.1f} s from this one", mend)
    else:
        yield ok("clock", f"within {_SKEW_SECONDS:g} s of the service's")


def _release(http: httpx2.Client) -> Iterator[Finding]:
    own = version("stowplan")
    answer = http.get("/openapi.json")
    if answer.status_code != 200:
        return
    theirs = str(answer.json().get("info", {}).get("version"))
    if theirs == own:
        yield ok("release", f"stowplan {own}, as the service")
    else:
        mend = "install the same release on both"
        yield warn("release", f"stowplan {own} here, {theirs} at the service", mend)


def _membership(
    http: httpx2.Client, token: str | None, settings: AgentSettings
) -> Iterator[Finding]:
    if token is None:
        yield _token_alone(token, settings)
        return
    answer = http.get(
        "/agent/v1/desired",
        params={"revision": "-1", "wait": "0"},
        headers={"Authorization": f"Bearer {token}"},
    )
    if answer.is_success:
        yield ok("token", f"the service knows this node as {settings.name}")
    elif answer.status_code in {401, 403}:
        yield fail(
            "token",
            "the service doesn't know this node's token: it was removed, or it's another service",
            "join anew: start the agent with --join-token (stowplan join-token create)",
        )
    else:
        yield warn("token", f"the service answers {answer.status_code} to it", "see its log")


def _token_alone(token: str | None, settings: AgentSettings) -> Finding:
    if token is not None:
        return ok("token", "this node has joined before")
    if settings.join_token is not None:
        return ok("token", "not joined yet; there is a join token")
    return fail(
        "token",
        "neither a token of this node nor one to join with",
        "stowplan join-token create, and give it: --join-token, or STOWPLAN_AGENT_JOIN_TOKEN",
    )


def _own_token(state_dir: Path) -> str | None:
    with suppress(OSError):
        return (state_dir / "token").read_text().strip() or None
    return None


def _leftovers(state_dir: Path) -> Iterator[Finding]:
    what = "leftovers"
    pid = lock_holder(state_dir / "agent.lock")
    processes = marked_below(MARK, state_dir)
    attempts = list((state_dir / "allocations").glob("*/*/intent.json"))
    open_ = [path for path in attempts if not (path.parent / "exit.json").exists()]
    if pid is not None:
        yield ok(what, f"none: an agent runs, with {len(open_)} attempts that aren't over")
        return
    groups = left_of(state_dir)
    if not (processes or open_ or groups):
        waits = f"; the service is to hear of the end of {len(attempts)}" if attempts else ""
        yield ok(what, f"none{waits}")
        return
    parts = [
        f"{len(processes)} processes of tasks" if processes else "",
        f"{len(open_)} attempts that aren't over" if open_ else "",
        f"{len(groups)} control groups" if groups else "",
    ]
    yield warn(
        what,
        f"{', '.join(filter(None, parts))} of an earlier agent",
        "start the agent: it takes them over; or stowplan agent uninstall ends and removes them",
    )
