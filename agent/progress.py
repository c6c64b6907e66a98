"""What programs tell of themselves in ``control/progress.json`` (docs/tasks.md).

Everything in that directory is the task's: a link could lead anywhere, a pipe would block whoever
opens it, and the file may hold any bytes, of any length. So nothing is followed, nothing is waited
for, little is read, and what isn't a plain number in range is left out.
"""

import json
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from agent.events import Key
from protocol.report import Progress

FILE = "progress.json"
BYTES_MAX = 4096
REPORTED_MAX = 4096
"""Of how many allocations a report tells it at most."""

_FIELDS = frozenset(Progress.model_fields) - {"id", "generation"}


def told(controls: Iterable[tuple[Key, Path]]) -> tuple[Progress, ...]:
    """What those programs tell that tell anything, by their control directories."""
    found = []
    for key, control in controls:
        progress = read(key, control)
        if progress is not None:
            found.append(progress)
            if len(found) == REPORTED_MAX:
                break
    return tuple(found)


def read(key: Key, control: Path) -> Progress | None:
    """What one program tells; None for nothing, or nothing that can be understood."""
    data = _content(control)
    if data is None:
        return None
    try:
        form = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(form, dict):
        return None
    values = {name: value for name, value in form.items() if name in _FIELDS and value is not None}
    return _checked(key, values)


def _checked(key: Key, values: dict[str, Any]) -> Progress | None:
    while values:
        try:
            return Progress(id=key.id, generation=key.generation, **values)
        except ValidationError as error:
            bad = {str(fault["loc"][0]) for fault in error.errors(include_input=False)}
            values = {name: value for name, value in values.items() if name not in bad}
    return None


def _content(control: Path) -> bytes | None:
    with suppress(OSError):
        directory = os.open(control, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            # Without O_NONBLOCK a named pipe in its place would be waited for.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            file = os.open(FILE, flags, dir_fd=directory)
        finally:
            os.close(directory)
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                return None
            data = os.read(file, BYTES_MAX + 1)
        finally:
            os.close(file)
        return data if len(data) <= BYTES_MAX else None
    return None
