"""When each node was last heard, on this process's monotonic clock, and how often it's to speak.

A node's lease is kept here and not in a row: a restarted service counts every lease as renewed at
its start,
so that its own outage never looks like the death of all nodes.
"""

from dataclasses import dataclass


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

    def heard_since(self, moment: float) -> dict[int, float]:
        """The nodes that have spoken since, and when."""
        return {node: at for node, at in self._heard.items() if at >= moment}

    def __len__(self) -> int:
        return len(self._heard)


@dataclass(slots=True, kw_only=True)
class Pace:
    """How often nodes speak: the more there are, the less often each."""

    heartbeats: Heartbeats
    report_seconds: float
    samples_seconds: float
    per_second_max: int

    @property
    def linger_seconds(self) -> float:
        """How long measurements may wait to be committed together with others'. The more nodes, the
        more come in a moment."""
        return min(0.01, max(0.002, len(self.heartbeats) / 100_000))

    @property
    def report_interval_seconds(self) -> float:
        return max(self.report_seconds, len(self.heartbeats) / self.per_second_max)

    @property
    def samples_interval_seconds(self) -> float:
        return max(self.samples_seconds, len(self.heartbeats) / self.per_second_max)
