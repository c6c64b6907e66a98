"""Whether a task's torch understands an option of its allocator, found out without running it.

A torch that doesn't know an option ends the program at its first use of CUDA, so the agent sets
one only where it's sure. Version numbers say little (nightlies, builds of vendors, back ports); the
headers that torch brings along say exactly what its allocator reads.
"""

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from agent.devices.shares import FRACTION_OPTION

_HEADER = Path("include/c10/cuda/CUDAAllocatorConfig.h")
_HEADER_BYTES = 256 << 10
_SHEBANG_BYTES = 512
_PYTHON = re.compile(r"python(3(\.\d+)?t?)?")
_SYSTEM_TOO = re.compile(r"^include-system-site-packages\s*=\s*true", re.MULTILINE | re.IGNORECASE)
_BASE_HOME = re.compile(r"^home\s*=\s*(.+)$", re.MULTILINE)


def understands_fraction(program: str, environment: Mapping[str, str]) -> bool:
    """Whether every torch that this program could import limits itself when it's told to.

    ``program`` is the first word of its command. False when that can't be told: a program that
    isn't Python (nor a script of it, as ``torchrun`` is) may start any.
    """
    try:
        python = _interpreter(program, environment.get("PATH", os.defpath))
        found = list(_torches(python, environment)) if python is not None else []
        return bool(found) and all(_knows(torch) for torch in found)
    except OSError:
        return False  # not for our eyes: nothing is known


def _interpreter(program: str, search_path: str) -> Path | None:
    """The Python that runs this program."""
    if os.sep in program and not Path(program).is_absolute():
        return None  # it depends on where it is started
    found = shutil.which(program, path=search_path)
    if found is None:
        return None
    path = Path(found)
    if _PYTHON.fullmatch(path.name):
        return path
    with path.open("rb") as file:
        first = file.read(_SHEBANG_BYTES).split(b"\n", 1)[0]
    if not first.startswith(b"#!"):
        return None
    words = first[2:].decode(errors="replace").split()
    if words and Path(words[0]).name == "env":
        words = [word for word in words[1:] if not word.startswith("-")]
        named = shutil.which(words[0], path=search_path) if words else None
        words = [named] if named else []
    if words and _PYTHON.fullmatch(Path(words[0]).name):
        return Path(words[0])
    return None


def _torches(python: Path, environment: Mapping[str, str]) -> Iterator[Path]:
    """The torch packages where this Python looks for modules."""
    places = [Path(part) for part in environment.get("PYTHONPATH", "").split(os.pathsep) if part]
    prefixes = [python.parent.parent]
    config = prefixes[0] / "pyvenv.cfg"
    if config.exists():
        said = config.read_text()
        home = _BASE_HOME.search(said) if _SYSTEM_TOO.search(said) else None
        prefixes += [Path(home[1].strip()).parent] if home else []
    else:
        prefixes += [python.resolve().parent.parent, Path(environment.get("HOME", "/")) / ".local"]
    for prefix in dict.fromkeys(prefixes):
        for pattern in ("lib*/python3*/site-packages", "lib/python3*/dist-packages"):
            places += sorted(prefix.glob(pattern))
        places += sorted(prefix.glob("local/lib/python3*/dist-packages"))
    yield from dict.fromkeys(
        torch.resolve() for place in places if (torch := place / "torch").is_dir()
    )


def _knows(torch: Path) -> bool:
    try:
        with (torch / _HEADER).open("rb") as file:
            return FRACTION_OPTION.encode() in file.read(_HEADER_BYTES)
    except FileNotFoundError:
        return False
