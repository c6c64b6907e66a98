"""What an agent is told: by variables with the prefix STOWPLAN_AGENT_, or by the command."""

import os
import platform
import re
import sys
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from agent.confining.accounts import RootTasks
from protocol.task import ENFORCE_LABEL, Enforced, Label
from protocol.wire import Name
from telemetry.probes.simulated import parse_groups

DEFAULT_SERVER = "http://127.0.0.1:8470"


def _host_name() -> str:
    """The host's name as a node's name: other characters become dashes."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", platform.node()).strip("-._")[:63] or "node"


def _task_path() -> str:
    """The agent's own interpreter first: where both share an environment, it has torch."""
    own = str(Path(sys.executable).parent)
    return os.pathsep.join([own, os.environ.get("PATH", os.defpath)])


def _known_form(text: str | None) -> str | None:
    if text:
        parse_groups(text)
    return text or None


# No way up: /a/b, of what systemd and container engines name groups with.
_GROUP = r"^(/[A-Za-z0-9_@:\\-][A-Za-z0-9_.@:\\-]*)+$"
# The agent's own come on top, and a registration holds 64.
_LABELS_MAX = 64 - len(Enforced) - 1


def _given_labels(labels: dict[str, str]) -> dict[str, str]:
    own = sorted(label for label in labels if label.startswith(ENFORCE_LABEL))
    if own:
        raise ValueError(
            f"labels that begin with {ENFORCE_LABEL!r} are the agent's own word: {', '.join(own)}"
        )
    if len(labels) > _LABELS_MAX:
        raise ValueError(f"{len(labels)} labels: a node has {_LABELS_MAX} at most")
    return labels


class AgentSettings(BaseSettings):
    """One agent. Values that are given beat variables, which beat the defaults."""

    model_config = SettingsConfigDict(
        env_prefix="STOWPLAN_AGENT_", env_ignore_empty=True, extra="ignore"
    )

    server: Annotated[str, Field(pattern=r"^https?://[^/]+")] = DEFAULT_SERVER
    name: Name = Field(default_factory=_host_name)
    address: Annotated[str, Field(pattern=r"^[A-Za-z0-9.:_-]+$", max_length=255)] | None = None
    """Where this node's tasks are reached; None: the local address that reaches the server."""
    join_token: SecretStr | None = None
    state_dir: Path | None = None
    """None: ``stowplan/NAME`` in the user's state directory."""
    labels: Annotated[dict[Label, Label], AfterValidator(_given_labels)] = {}
    domains: dict[Label, Label] = {}
    simulated_devices: Annotated[str | None, AfterValidator(_known_form)] = None
    """``2``, ``2xA100`` or ``2xA100:40960``, several with commas between."""
    nvml: bool = True
    nvml_library: Path | None = None
    """Load this file in place of libnvidia-ml.so.1; tasks never see it."""
    sample_interval_seconds: Annotated[float, Field(ge=0.1, le=60)] = 1.0
    """Between two looks at the machine."""
    first_window_seconds: Annotated[float, Field(ge=1, le=300)] = 5.0
    """How much time a row stands for until the service has said so."""
    sample_spool_mib: Annotated[int, Field(ge=1, le=65_536)] = 64
    """Room for measurements that the service hasn't taken; beyond it the oldest are given up."""
    log_disk_mib: Annotated[int, Field(ge=1, le=1_048_576)] = 256
    """Room on disk for what one attempt prints; beyond it the oldest is given up."""
    log_kib_per_second: Annotated[int, Field(ge=64, le=1_048_576)] = 4096
    """What this node sends of its tasks' output at most, but for the end of what has ended."""
    task_path: str = Field(default_factory=_task_path)
    """PATH of the tasks."""
    stop_tasks_on_exit: bool = False
    task_account: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    """As whom tasks run, where the agent is root; None: as the agent itself."""
    root_tasks: RootTasks = RootTasks.LOCAL
    """Whether tasks may run as root: only when the service is on this machine, always, never."""
    artifacts_dir: Path | None = None
    """Where tasks keep what they make; None: in the state directory. May be a shared file
    system."""
    release_seconds: Annotated[float, Field(ge=1, le=3600)] = 60.0
    """How long an ended task's devices may take to be free; then they are given up."""
    gpu_overuse_seconds: Annotated[float, Field(ge=0, le=86_400)] = 30.0
    """From the warning of a task that overuses its share of a device to its stop, where its spec
    says so."""
    allocator_fraction: bool = True
    """Ask torch's allocator to keep a task to its share of a device, where its torch can."""
    mps_pipe_directory: Annotated[str, Field(pattern=r"^/[^\x00]*$", max_length=4096)] = (
        "/tmp/nvidia-mps"  # noqa: S108  where NVIDIA's daemon is by default
    )
    """Of an MPS control daemon, or of one for each device with ``{uuid}`` in the path."""
    cgroup_parent: Annotated[str, Field(pattern=_GROUP)] | None = None
    """The control group in which those of the tasks are made; None: the agent's own."""

    def state_directory(self) -> Path:
        if self.state_dir is not None:
            return self.state_dir.expanduser().absolute()
        state = os.environ.get("XDG_STATE_HOME")
        base = Path(state) if state and Path(state).is_absolute() else Path.home() / ".local/state"
        return base / "stowplan" / self.name
