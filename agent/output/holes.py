"""Files that are kept small by making holes in them: their offsets stay, their blocks go.

A task writes to its output by itself, so nobody can rotate it. A hole in its old part reads as
NULs, takes no room, and is nothing that the writer notices.
"""

import contextlib
import ctypes
import errno
import os
from collections.abc import Iterable
from pathlib import Path

BLOCK_BYTES = 4096
_KEEP_SIZE_PUNCH_HOLE = 0x01 | 0x02
_UNSUPPORTED = {errno.EOPNOTSUPP, errno.ENOSYS, errno.ENODEV, errno.EINVAL}
_libc = ctypes.CDLL(None, use_errno=True)


class NoHolesError(OSError):
    """This file system can't make holes."""


def punch(fd: int, start: int, end: int) -> None:
    """Give the room of whole blocks between two offsets back.

    Raises:
        NoHolesError: the file system can't.
        OSError: it failed.
    """
    start = -(-start // BLOCK_BYTES) * BLOCK_BYTES
    length = end // BLOCK_BYTES * BLOCK_BYTES - start
    if length <= 0:
        return
    done = _libc.fallocate(fd, _KEEP_SIZE_PUNCH_HOLE, ctypes.c_int64(start), ctypes.c_int64(length))
    if done != 0:
        number = ctypes.get_errno()
        kind = NoHolesError if number in _UNSUPPORTED else OSError
        raise kind(number, os.strerror(number))


def data_from(fd: int, offset: int) -> int:
    """The first offset from this one on that isn't in a hole; the end where there is none."""
    try:
        return os.lseek(fd, offset, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return max(offset, os.fstat(fd).st_size)
        return offset  # a file system that knows nothing of holes


def room(found: os.stat_result) -> int:
    """The bytes that a file takes on disk; its length where the file system doesn't say."""
    return found.st_blocks * 512 if found.st_blocks else found.st_size


def read_up_to(found: os.stat_result, pids: Iterable[int]) -> int | None:
    """How far the slowest of these processes that read a file has come; None: none reads it."""
    file = (found.st_dev, found.st_ino)
    return min((position for pid in pids for position in _positions(pid, file)), default=None)


def _positions(pid: int, file: tuple[int, int]) -> list[int]:
    found = []
    with contextlib.suppress(OSError):
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError, KeyError, ValueError):
                at = fd.stat()
                if (at.st_dev, at.st_ino) == file:
                    form = _fdinfo(pid, fd.name)
                    if int(form["flags"], 8) & os.O_ACCMODE == os.O_RDONLY:
                        found.append(int(form["pos"]))
    return found


def _fdinfo(pid: int, fd: str) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/fdinfo/{fd}").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
