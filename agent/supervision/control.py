"""The control directory, by which a program is asked for a checkpoint and tells what it does."""

# ruff: noqa: PTH108

import os

_ASKED = "control/checkpoint.asked"
_ACKNOWLEDGED = "control/checkpoint.acknowledged"
_DONE = "control/checkpoint.done"


def forget_words() -> None:
    """What a program said before it was asked is no answer."""
    for path in (_ACKNOWLEDGED, _DONE):
        try:
            os.unlink(path)
        except OSError:
            continue  # it has said nothing yet


def ask() -> None:
    """Ask by file. An empty one is whole as soon as it's there, and needs no room on the disk.

    The directory is the program's: nothing there is followed or opened that it may have made.
    """
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW
    try:
        os.close(os.open(_ASKED, flags, 0o644))
    except OSError:
        return  # there already, or no way: an answer that doesn't come is provided for


def is_acknowledged() -> bool:
    return os.path.lexists(_ACKNOWLEDGED)


def is_done() -> bool:
    return os.path.lexists(_DONE)
