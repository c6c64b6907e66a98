"""Files that are whole after a crash, and readable by their owner alone."""

import os
from pathlib import Path


def write_whole(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Put a file in place whole or not at all; ``durable``: also when the machine crashes now.

    Raises:
        OSError: it could not be written; what was there before still is.
    """
    fresh = path.with_name(path.name + ".new")
    with open(fresh, "wb", opener=open_private) as file:
        file.write(data)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    fresh.replace(path)
    if durable:
        sync_directory(path.parent)


def open_private(path: str, flags: int) -> int:
    """An opener for files that hold nothing for others."""
    return os.open(path, flags, 0o600)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
