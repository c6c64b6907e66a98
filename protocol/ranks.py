"""How many ranks a replica's program starts, as far as its task tells: what the agent and the
service must agree on to keep ranks apart in one output."""

import re
from collections.abc import Sequence
from itertools import pairwise

_NPROC_OPTIONS = ("--nproc-per-node", "--nproc_per_node")
_LAUNCHERS = ("torchrun", "torch.distributed")

LINE_PREFIX_TEMPLATE = "[rank${rank}]: "
"""What torchrun puts before each line of a rank, with its global number."""
_LINE_PREFIX = re.compile(rb"\[rank(\d{1,6})\]: ")
_CUT_PREFIX = re.compile(rb"\[(?:r(?:a(?:n(?:k(?:\d{1,6}(?:\](?::)?)?)?)?)?)?)?\Z")


def names_launcher(argv: Sequence[str]) -> bool:
    """Whether the command says by itself that it starts one process a rank."""
    return any(launcher in word for word in argv for launcher in _LAUNCHERS)


def local_ranks(argv: Sequence[str], gpus: int) -> int:
    """The ranks of one replica under torchrun: as asked for in words, or one a GPU."""
    for told in _options(argv):
        if told.isascii() and told.isdigit() and int(told) > 0:
            return int(told)
    return max(1, gpus)


def _options(argv: Sequence[str]) -> list[str]:
    """The values of the option, also inside the words of a shell script."""
    words = [part for word in argv for part in word.replace("=", " ").split()]
    return [value for name, value in pairwise(words) if name in _NPROC_OPTIONS]


def tells_ranks(data: bytes) -> bool:
    """Whether an output has lines of ranks in it."""
    return _LINE_PREFIX.search(data) is not None


def of_rank(data: bytes, rank: int, within: int | None = None) -> bytes:
    """What one rank wrote, without the prefixes. ``within`` is whose line the data begins in.

    torchrun passes pieces of lines on as they come, so a line of one rank may begin within another
    one's: what follows a prefix, up to the next one or to the end of the line, is the rank's.
    """
    parts: list[bytes] = []
    whose, at = within, 0
    for mark in _LINE_PREFIX.finditer(data):
        parts.append(_own(data[at : mark.start()], whose, rank))
        whose, at = int(mark[1]), mark.end()
    parts.append(_own(data[at:], whose, rank))
    return b"".join(parts)


def _own(data: bytes, whose: int | None, rank: int) -> bytes:
    return data[: data.find(b"\n") + 1 or len(data)] if whose == rank else b""


def rank_at_end(data: bytes) -> int | None:
    """Whose line it is that an output ends in the middle of; None: nobody's, as far as is seen."""
    line = data[data.rfind(b"\n") + 1 :]
    marks = _LINE_PREFIX.findall(line)
    return int(marks[-1]) if marks else None


def cut_prefix_bytes(data: bytes) -> int:
    """How many bytes at the end may be the beginning of a prefix."""
    cut = _CUT_PREFIX.search(data)
    return len(data) - cut.start() if cut else 0
