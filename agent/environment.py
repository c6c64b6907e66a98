"""The environment of a task. Pure.

Three layers, the later one wins: a clean base (never the agent's own environment: it holds tokens),
the task's spec, and what only the agent knows.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.devices.shares import Offer, device_environment
from protocol.desired import DesiredAllocation, Launch
from protocol.ranks import LINE_PREFIX_TEMPLATE, local_ranks
from protocol.task import AskBy


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """What every task of a node gets."""

    node: str
    path: str
    variables: dict[str, str]


def make_base(
    *, node: str, path: str, inherited: Mapping[str, str], nvml_library: Path | None
) -> Base:
    """The base, from the few variables of the agent that concern the machine and not the agent."""
    variables = {
        "HOME": inherited.get("HOME", "/"),
        "USER": inherited.get("USER", ""),
        "LANG": inherited.get("LANG", "C.UTF-8"),
        "TMPDIR": inherited.get("TMPDIR", "/tmp"),  # noqa: S108  the machine's own default
        "LD_LIBRARY_PATH": _without(inherited.get("LD_LIBRARY_PATH", ""), nvml_library),
    }
    return Base(
        node=node, path=path, variables={name: value for name, value in variables.items() if value}
    )


def _without(search_path: str, library: Path | None) -> str:
    """torch loads NVML by name: a stand-in for the agent must not reach it."""
    hidden = library.resolve().parent if library else None
    parts = [part for part in search_path.split(os.pathsep) if part]
    return os.pathsep.join(part for part in parts if Path(part).resolve() != hidden)


def task_environment(
    base: Base,
    allocation: DesiredAllocation,
    *,
    port: int,
    master_port: int,
    artifacts: Path,
    control: Path,
    ranks: Path,
    offer: Offer | None = None,
) -> dict[str, str]:
    """All variables of one replica. ``offer`` is what the node can do about its devices."""
    return {
        "PATH": base.path,
        **base.variables,
        "OMP_NUM_THREADS": str(max(1, allocation.cpu_milli // 1000)),
        "PYTHONUNBUFFERED": "1",  # a log that is followed, also of a program that is killed
        **_logs(allocation, ranks),
        **allocation.launch.env,
        **device_environment(allocation, offer or Offer()),
        **_identity(base, allocation, artifacts),
        **_checkpoints(allocation.launch, control),
        **_rendezvous(allocation, master_port),
        "PORT": str(port),
        "STOWPLAN_PORT": str(port),
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(_shutdown_seconds(allocation.launch)),
    }


def _identity(base: Base, allocation: DesiredAllocation, artifacts: Path) -> dict[str, str]:
    return {
        "STOWPLAN_NODE": base.node,
        "STOWPLAN_TASK": allocation.task,
        "STOWPLAN_TASK_NAME": allocation.task_name,
        "STOWPLAN_ALLOCATION": allocation.id,
        "STOWPLAN_GENERATION": str(allocation.generation),
        "STOWPLAN_ARTIFACTS": str(artifacts),
    }


def _logs(allocation: DesiredAllocation, ranks: Path) -> dict[str, str]:
    """torchrun leaves the errors of its ranks where the agent finds them, and says of each line
    whose it is: ``[rank3]: ``. A program of one rank writes its output by itself.
    """
    several = local_ranks(allocation.launch.argv, len(allocation.devices)) > 1
    told = {"PET_TEE": "3", "TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE": LINE_PREFIX_TEMPLATE}
    return {"PET_LOG_DIR": str(ranks), **(told if several else {})}


def _checkpoints(launch: Launch, control: Path) -> dict[str, str]:
    """Where the program and the node leave each other word (docs/tasks.md)."""
    asked = {"STOWPLAN_CHECKPOINT_ASK": str(launch.checkpoint.ask)} if launch.checkpoint else {}
    return {"STOWPLAN_CONTROL": str(control), **asked}


def _rendezvous(allocation: DesiredAllocation, master_port: int) -> dict[str, str]:
    """For a plain program, one rank a replica; for torchrun (PET_*), one node of its rendezvous.

    torchrun overwrites the first set for its workers, so a spec needn't say which of the two it is.
    The rendezvous id carries the generation: a rank of an earlier attempt can't join.
    """
    gang = allocation.gang
    rank, size = str(gang.rank), str(gang.size)
    return {
        "MASTER_ADDR": gang.master_address,
        "MASTER_PORT": str(master_port),
        "RANK": rank,
        "WORLD_SIZE": size,
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
        "NODE_RANK": rank,
        "GROUP_RANK": rank,
        "PET_NNODES": size,
        "PET_NODE_RANK": rank,
        "PET_NPROC_PER_NODE": str(max(1, len(allocation.devices))),
        "PET_MASTER_ADDR": gang.master_address,
        "PET_MASTER_PORT": str(master_port),
        "PET_RDZV_ID": f"{allocation.task}-{allocation.generation}",
        "PET_RDZV_BACKEND": "static",
    }


def _shutdown_seconds(launch: Launch) -> int:
    """How long torchrun waits for its workers after SIGTERM: less than the grace, so that it ends
    by itself.

    Where SIGTERM itself asks for the checkpoint, it must not cut that short: all the time there is.
    Asked otherwise, SIGTERM comes when the checkpoint is done, or nobody has answered.
    """
    checkpoint, grace_seconds = launch.checkpoint, launch.grace_seconds
    if checkpoint is not None and checkpoint.ask is AskBy.SIGTERM:
        return math.ceil(checkpoint.ack_seconds + grace_seconds)
    return max(1, int(max(grace_seconds - 10, grace_seconds / 2)))
