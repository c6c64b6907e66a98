"""Runs one allocation's program, outlives the agent, and writes down how the program ended.

Started by the agent as ``python -I -S shim.py DIRECTORY`` in a session of its own; standard library
only. It owns the lock of its allocation, gets every orphan of the program (subreaper), and keeps to
this order, so that a crash at any point leaves a directory that tells the truth:

1. ``intent.json`` was written by the agent before the shim was started;
2. the lock is taken, and the program's cgroup found empty: no other attempt is alive here;
3. the program's process is forked, but waits at a gate;
4. ``running.json`` names that process for good (pid, start time, boot);
5. only then the gate opens; the process joins its cgroups, takes its account, becomes the program;
6. once the program and everything it started are gone, ``exit.json`` says how it ended.

It alone stops the program (:mod:`agent.supervision.stopping`): when the agent has put an order into
``stop.json`` and sends SIGTERM, when the machine sends SIGTERM, and when the node's lease runs out.
That binds the shim too: an agent that died, or was refused, can't stop its tasks when the service
may start them elsewhere, so each shim reads the lease's end and keeps to it by itself.

This file is only the way in. The rest is in modules that Python compiles once for all shims:
compiling what a shim is made of in each would cost it 1.5 MiB for good.
"""

import sys

LOCKED_EXIT_CODE = 75
"""EX_TEMPFAIL: another attempt of this allocation is alive."""


def main(directory: str) -> int:
    """Run the allocation of this directory to its end."""
    # Behind the standard library, which alone is on the path of an isolated Python.
    sys.path.append(__file__.rpartition("/")[0] + "/..")
    from agent.supervision import watch  # noqa: PLC0415

    return 0 if watch.run(directory) else LOCKED_EXIT_CODE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
