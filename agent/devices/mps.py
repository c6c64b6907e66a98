"""Whether an MPS control daemon serves a device (docs/gpu-sharing.md)."""

import errno
import os
import socket
from contextlib import suppress
from pathlib import Path

_UUID = "{uuid}"
_CONTROL = "control"


def pipe_directory(template: str, device: str) -> str | None:
    """Where the daemon that serves this device is spoken to; None when none is there.

    ``template`` is one directory, or one for each device with ``{uuid}`` in it. Only a daemon of
    root's, or of the agent's own account, is believed: anybody may make a socket in /tmp.
    """
    directory = Path(template.replace(_UUID, device))
    control = directory / _CONTROL
    trusted = {0, os.geteuid()}
    try:
        if {directory.stat().st_uid, control.lstat().st_uid} - trusted:
            return None
    except OSError:
        return None
    return str(directory) if _is_served(control) else None


def _is_served(path: Path) -> bool:
    """Whether a process listens on this socket. It doesn't notice: a connection of another kind
    than its own is refused by the kernel, with another word than when nobody listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as question, suppress(ValueError):
        try:
            question.connect(str(path))
        except OSError as error:
            return error.errno == errno.EPROTOTYPE
        return True
    return False
