"""The names of the objective terms, of the dimensions they count, and which way each is better.

The formulas are docs/model.md (O0) to (O7); ``solver.score`` computes them and a back end models
them.
"""

from enum import StrEnum


class TermName(StrEnum):
    """What a plan may be judged by. All but ``placed`` are costs: less is better."""

    REPAIR = "repair"
    """Comes before all others by itself where the start state is broken; no problem names it."""
    PLACED = "placed"
    DISRUPTION = "disruption"
    FRAGMENTATION = "fragmentation"
    LOCALITY = "locality"
    BALANCE = "balance"
    PACK = "pack"
    POWER = "power"

    @property
    def is_maximised(self) -> bool:
        """True for the one term of which more is better."""
        return self is TermName.PLACED


OBJECTIVE_NAMES = tuple(name.value for name in TermName if name is not TermName.REPAIR)
"""What a problem's ``objective`` may name."""

DEFAULT_OBJECTIVE = ("placed", "disruption", "fragmentation", "locality", "balance")

NODE_DOMAIN = "node"
"""The domain that always exists: each node is a value of its own."""

NODE_DIMENSIONS = ("cpu_milli", "memory_mib", "disk_mib", "network_mbps")
QUEUE_DIMENSIONS = ("gpu_milli", "gpus", "gpu_memory_mib", *NODE_DIMENSIONS)
"""What ``limit`` and ``guaranteed`` of a queue may name."""
