"""A program that doesn't want to go: ``stubborn.py ignores_term | escapes | forks``.

Run as ``python -I -S``. All of them ignore SIGTERM; it prints a line once it's all there.
"""

import os
import signal
import sys
import time

CHAINS = 40
_LIFE_SECONDS = 60.0
"""Even if nobody stops it, it isn't for ever."""


def main(how: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if how == "escapes":
        escape()
    elif how == "forks":
        for _ in range(CHAINS):
            if os.fork() == 0:
                run_away()
    print("here", flush=True)
    time.sleep(_LIFE_SECONDS)


def escape() -> None:
    """A session of its own, and no parent that anybody knows."""
    if os.fork():
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    time.sleep(_LIFE_SECONDS)
    os._exit(0)


def run_away() -> None:
    """A process that is another one each time somebody looks: whoever kills by pid comes late."""
    until = time.monotonic() + _LIFE_SECONDS
    while time.monotonic() < until:
        time.sleep(0.01)
        if os.fork():
            os._exit(0)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
