"""`stowplan agent unit`: the agent as a service of systemd, and its word to systemd that it serves.

Tasks outlive a restart of the agent, so that it can be upgraded under them: ``KillMode=process``
leaves their shims alone, ``Delegate=yes`` leaves their control groups to us. Tokens aren't in the
unit: any user may read it.
"""

import os
import re
import shutil
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

NAME = "stowplan-agent.service"
ENVIRONMENT_FILE = "/etc/stowplan/agent.env"
STATE_DIRECTORY = "stowplan"
_PLAIN = re.compile(r"[\w@%+=:,./$-]+", re.ASCII)
_UNIT = """\
# stowplan agent unit > /etc/systemd/system/{name}
# systemctl daemon-reload; systemctl enable --now {name}
[Unit]
Description=Stowplan agent: runs tasks on this node
After=network-online.target time-sync.target nvidia-persistenced.service
Wants=network-online.target
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart={command}
# STOWPLAN_AGENT_JOIN_TOKEN=..., for the first start only; mode 0600.
EnvironmentFile=-{environment_file}
Restart=always
RestartSec=5
# Tasks go on while the agent is restarted, upgraded or stopped; stowplan agent uninstall ends them.
KillMode=process
TimeoutStartSec=60
TimeoutStopSec=30
# Limits of tasks are set in groups below the agent's own.
Delegate=yes
# Else it can't be started anew while tasks are in groups below. Before systemd 254, which doesn't
# know this, set STOWPLAN_AGENT_CGROUP_PARENT=/stowplan in the environment file.
DelegateSubgroup=agent
# The agent is the last to go when memory is short, tasks are not (their shims see to that).
OOMScoreAdjust=-900
OOMPolicy=continue
LimitNOFILE=1048576
LimitMEMLOCK=infinity
LimitCORE=0
TasksMax=infinity
StateDirectory={state_directory}
StateDirectoryMode=0711
UMask=0027
{user}
[Install]
WantedBy=multi-user.target
"""


def unit(options: Sequence[tuple[str, str]], *, user: str | None = None) -> str:
    """The text of the unit file. ``options`` are those of `stowplan agent`, with their values
    (empty for a switch); tokens have no place there."""
    given = list(options)
    if not any(name == "--state-dir" for name, _ in given):
        given.append(("--state-dir", f"/var/lib/{STATE_DIRECTORY}/agent"))
    words = [*_program(), "agent", *(word for option in given for word in option if word)]
    return _UNIT.format(
        name=NAME,
        command=" ".join(map(_word, words)),
        environment_file=ENVIRONMENT_FILE,
        state_directory=STATE_DIRECTORY,
        user=f"User={user}\n" if user else "",
    )


def _program() -> list[str]:
    """How this very installation is called, whatever the PATH of systemd is."""
    beside = Path(sys.executable).with_name("stowplan")
    found = str(beside) if beside.exists() else shutil.which("stowplan")
    return [found] if found else [sys.executable, "-m", "client.cli"]


def _word(text: str) -> str:
    """As systemd reads it, which isn't as a shell does: % and $ stand for something there."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return escaped if _PLAIN.fullmatch(text) else f'"{escaped}"'


def notify(state: str) -> None:
    """Tell systemd, where it started us and wants to know (sd_notify): ``READY=1``, ``STOPPING=1``.
    Tasks aren't to speak for us: they don't inherit the address."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as speaker:
        speaker.connect(address)
        speaker.send(state.encode())
