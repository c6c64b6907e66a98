"""When each node was last heard, on this process's monotonic clock.

A node's lease is kept here and not in a row: a restarted service counts every lease as renewed at
its start,
so that its own outage never looks like the death of all nodes.
"""


class Heartbeats:
    def __init__(self, started: float) -> None:
        self._started = started
        self._heard: dict[int, float] = {}

    def heard(self, node_id: int, now: float) -> None:
        self._heard[node_id] = max(now, self._heard.get(node_id, now))

    def silence_seconds(self, node_id: int, now: float) -> float:
        """How long the node has said nothing; since our own start when it hasn't spoken to us
        yet."""
        return now - self._heard.get(node_id, self._started)
