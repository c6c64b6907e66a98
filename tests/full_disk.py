"""A disk without room, as far as a program can tell: a limit of the kernel's fails its writes."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_file_beyond(most_bytes: int, pid: int = 0) -> Iterator[None]:
    """No file of the process grows beyond this; 0 means this process. What fails is a write, with
    EFBIG, after it has written as much as there is room for. What pytest captures is a file, too: a
    test in whose course something is logged takes ``capsys``.
    """
    soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (most_bytes, hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))
