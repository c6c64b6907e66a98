"""What of a task says how long it may run: a few short keys and numbers. Pure, and bounded.

Runs are alike when their keys are equal, and the keys go from "the very same" to "the same queue"
(docs/model.md, D1). Numbers that a command line gives (epochs, batch sizes, GPUs) are kept as
numbers, so that runs which differ in nothing else can be scaled to each other (D3).
"""

import hashlib
import math
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from protocol.task import TaskSpec

WORDS_MAX = 128
"""Of a command line. What stands behind them doesn't tell one run from another."""
WORD_LENGTH_MAX = 96
NUMBERS_MAX = 16
_KEY_BYTES = 8
_SHELLS = frozenset({"sh", "bash", "zsh", "dash"})
_SCRIPT = re.compile(r"\.(py|sh|ipynb|R|jl|pl)$")
_HASH = re.compile(
    r"(?<![0-9a-zA-Z])(?=[0-9a-fA-F]*\d)[0-9a-fA-F]{8,}(?![0-9a-zA-Z])|[0-9a-fA-F-]{36}"
)
_DIGITS = re.compile(r"\d+([._:T-]?\d+)*")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?")
_OPTION = re.compile(r"--?[A-Za-z]|\+{0,2}[A-Za-z_][\w./-]*=")
"""``--name``, ``-n``, and ``name=value`` as hydra has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The keys by which runs are alike, most alike first, and the numbers that scale them."""

    exact: str
    """The same command line, but for hashes and dates, of the same size and queue."""
    variant: str
    """As ``exact``, whatever the numbers."""
    command: str
    """The same program, script and option names, in any queue."""
    script: str
    """The same program and script."""
    queue: str
    numbers: tuple[tuple[str, float], ...]
    """Names and logarithms of positive numbers, sorted by name."""

    @property
    def keys(self) -> tuple[str, ...]:
        """From the most alike to the least, as ``LEVELS`` names them."""
        return self.exact, self.variant, self.command, self.script, self.queue


LEVELS = ("exact", "variant", "command", "script", "queue", "cluster")
"""What runs have in common; all of them have the cluster."""


def shape_of(spec: TaskSpec) -> Shape:
    """The shape of what a user submits. The same spec always has the same one."""
    words = _words(spec.argv)
    program = _DIGITS.sub("", PurePosixPath(words[0]).name).rstrip(".-")[:WORD_LENGTH_MAX]
    script = _script(words)
    options: set[str] = set()
    texts: list[str] = []
    numbers = {"gpus": spec.request.gpus * spec.request.gpu_milli / 1000, "replicas": spec.replicas}
    for name, value in _arguments(words[1:]):
        options.add(name)
        number = _number(value)
        if number is not None and len(numbers) < NUMBERS_MAX:
            numbers.setdefault(name, number)
        else:
            texts.append(f"{name} {blurred(value)}")
    logs = tuple(sorted((name, math.log(value)) for name, value in numbers.items() if value > 0))
    of_script = (program, script)
    of_command = (*of_script, *sorted(options))
    of_variant = (
        *of_command,
        spec.queue,
        blurred(spec.name or ""),
        blurred(spec.working_dir or ""),
        *sorted(spec.gpu_models),
        *texts,
    )
    of_exact = (*of_variant, *(f"{name}={value:.6g}" for name, value in logs))
    return Shape(
        exact=_key(of_exact),
        variant=_key(of_variant),
        command=_key(of_command),
        script=_key(of_script),
        queue=spec.queue,
        numbers=logs,
    )


def blurred(text: str) -> str:
    """A word without what differs from run to run: digits, dates and hashes."""
    return _DIGITS.sub("#", _HASH.sub("#", text[: 4 * WORD_LENGTH_MAX]))[:WORD_LENGTH_MAX]


def _words(argv: Sequence[str]) -> list[str]:
    """The command line; of a shell's ``-c`` the words in it."""
    words = list(argv[:WORDS_MAX])
    if len(words) > 2 and PurePosixPath(words[0]).name in _SHELLS and words[1] in {"-c", "-lc"}:
        try:
            inner = shlex.split(words[2][: WORDS_MAX * WORD_LENGTH_MAX], comments=True)
        except ValueError:
            return words
        return inner[:WORDS_MAX] or words
    return words


def _script(words: Sequence[str]) -> str:
    """The base name of the script, or the module behind ``-m``; none, and it's empty."""
    for at, word in enumerate(words[1:], start=1):
        if _SCRIPT.search(word):
            return blurred(PurePosixPath(word).name)
        if word == "-m" and at + 1 < len(words):
            return blurred(words[at + 1])
    return ""


def _arguments(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Options' names with their values, and other words under their place (``1``, ``2``, ...)."""
    place = at = 0
    while at < len(words):
        word = words[at]
        at += 1
        if not _OPTION.match(word):
            place += 1
            yield str(place), word
            continue
        name, has_value, value = word.partition("=")
        takes_next = not has_value and at < len(words) and not _OPTION.match(words[at])
        if takes_next and not _SCRIPT.search(words[at]):
            value = words[at]
            at += 1
        yield blurred(name), value


def _number(value: str) -> float | None:
    if len(value) > 32 or not _NUMBER.fullmatch(value):
        return None
    number = float(value)
    return number if 0 < number < math.inf else None


def _key(parts: Sequence[str]) -> str:
    text = "\0".join(parts).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=_KEY_BYTES).hexdigest()
