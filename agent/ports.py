"""Ports for tasks: taken by binding them, and held until the task itself takes over."""

import errno
import random
import socket

# Below the range from which Linux takes the local ports of outgoing connections (32768 and up), so
# that no client of somebody else sits on a port between our test and the task's own bind.
FIRST, LAST = 20_000, 29_999


class NoPortError(Exception):
    """No port could be had; the text says why."""


class PortLeases:
    """The ports of one agent, from a random one on: two agents on one host rarely meet."""

    def __init__(self, *, first: int = FIRST, last: int = LAST, seed: int | None = None) -> None:
        self._first = first
        self._count = last - first + 1
        self._next = random.Random(seed).randrange(self._count)  # noqa: S311  no secret
        self._held: dict[int, socket.socket | None] = {}

    def lease(self, wanted: int | None = None) -> int:
        """A port that nobody listens on; ``wanted`` exactly, if given.

        Raises:
            NoPortError: ``wanted`` is in use, or all are.
        """
        if wanted is not None:
            if not self._take(wanted):
                raise NoPortError(f"port {wanted}, promised to the gang, is in use on this node")
            return wanted
        for _ in range(self._count):
            port = self._first + self._next
            self._next = (self._next + 1) % self._count
            if self._take(port):
                return port
        raise NoPortError(f"all ports from {self._first} on are in use on this node")

    def adopt(self, port: int) -> None:
        """A port that a running task has from an earlier run of the agent."""
        self._held[port] = None

    def hand_over(self, port: int) -> None:
        """Let go of the socket so that the task can bind the port, which stays leased."""
        holder = self._held.get(port)
        if holder is not None:
            holder.close()
        self._held[port] = None

    def release(self, port: int) -> None:
        holder = self._held.pop(port, None)
        if holder is not None:
            holder.close()

    def close(self) -> None:
        for port in list(self._held):
            self.release(port)

    def _take(self, port: int) -> bool:
        if port in self._held:
            return False
        holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            holder.bind(("0.0.0.0", port))  # noqa: S104  a task may listen on any address
        except OSError as error:
            holder.close()
            if error.errno in {errno.EADDRINUSE, errno.EACCES}:
                return False
            raise
        self._held[port] = holder
        return True
