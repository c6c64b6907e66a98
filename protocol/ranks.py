"""How many ranks a replica's program starts, as far as its task tells: what the agent and the
service must agree on to keep ranks apart in one output."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

NPROC_VARIABLE = "PET_NPROC_PER_NODE"
_NPROC_OPTIONS = ("--nproc-per-node", "--nproc_per_node")
_LAUNCHERS = ("torchrun", "torch.distributed")

LINE_PREFIX_TEMPLATE = "[rank${rank}]: "
"""What torchrun puts before each line of a rank, with its global number."""
LINE_PREFIX = rb"\[rank(\d{1,6})\]: "
"""The same as a pattern, for who reads it."""


def names_launcher(argv: Sequence[str]) -> bool:
    """Whether the command says by itself that it starts one process a rank."""
    return any(launcher in word for word in argv for launcher in _LAUNCHERS)


def local_ranks(argv: Sequence[str], env: Mapping[str, str], gpus: int) -> int:
    """The ranks of one replica under torchrun: as asked for in words, or one a GPU."""
    for told in (*_options(argv), env.get(NPROC_VARIABLE, "")):
        if told.isascii() and told.isdigit() and int(told) > 0:
            return int(told)
    return max(1, gpus)


def _options(argv: Sequence[str]) -> list[str]:
    """The values of the option, also inside the words of a shell script."""
    words = [part for word in argv for part in word.replace("=", " ").split()]
    return [value for name, value in pairwise(words) if name in _NPROC_OPTIONS]
