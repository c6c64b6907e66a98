"""The latest of everything that's measured, in memory: what planning, `top` and streams look at."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from app.db.samples.tables import Kind
from telemetry.samples import DiskCounters, NetworkCounters
from telemetry.stats import counter_rate

LATEST_WINDOW_MS = 120_000
"""A row older than this is no "latest" any more: silence isn't shown as the last thing heard."""

INDEX: Mapping[Kind, Mapping[str, int]] = {
    kind: {column.name: index for index, column in enumerate(kind.columns)} for kind in Kind
}


@dataclass(slots=True)
class Reading:
    """The newest row of one series, and the one before. ``values`` are in the order of the kind's
    columns."""

    kind: Kind
    key: str
    node: str
    taken_at_ms: int
    values: tuple[float | None, ...]
    previous_at_ms: int | None = None
    previous: tuple[float | None, ...] | None = None

    def get(self, column: str) -> float | None:
        return self.values[INDEX[self.kind][column]]

    def rate(self, column: str) -> float | None:
        """Growth of a counter per second since the row before; None when that isn't known."""
        if self.previous is None or self.previous_at_ms is None:
            return None
        index = INDEX[self.kind][column]
        seconds = (self.taken_at_ms - self.previous_at_ms) / 1000
        return counter_rate(self.previous[index], self.values[index], seconds)

    def growth(self, column: str) -> float | None:
        """Growth of a counter since the row before."""
        if self.previous is None:
            return None
        index = INDEX[self.kind][column]
        earlier, later = self.previous[index], self.values[index]
        return None if earlier is None or later is None or later < earlier else later - earlier


@dataclass(slots=True)
class HostDetail:
    """What isn't stored: each disk and each network, as last heard."""

    disks: tuple[DiskCounters, ...]
    networks: tuple[NetworkCounters, ...]


class Live:
    """One reading a series. Changed only by what is stored, so a restart loses nothing of it."""

    def __init__(self) -> None:
        # By node first: a device's UUID is the node's word, and no node may speak for another.
        self._of_node: dict[Kind, dict[str, dict[str, Reading]]] = {kind: {} for kind in Kind}
        self.details: dict[str, HostDetail] = {}
        self.version = 0
        """Grows with every change."""
        self._changed: dict[str, int] = {}

    def update(
        self, kind: Kind, node: str, key: str, taken_at_ms: int, values: tuple[float | None, ...]
    ) -> None:
        """Take over a row, unless a newer one is there already."""
        readings = self._of_node[kind].setdefault(node, {})
        known = readings.get(key)
        if known is None:
            readings[key] = Reading(kind, key, node, taken_at_ms, values)
        elif taken_at_ms > known.taken_at_ms:
            known.previous_at_ms, known.previous = known.taken_at_ms, known.values
            known.taken_at_ms, known.values = taken_at_ms, values
        else:
            return
        self.version += 1
        self._changed[node] = self.version

    def reading(self, kind: Kind, node: str, key: str, *, now_ms: int) -> Reading | None:
        """The newest row of a series; None when that is too long ago."""
        found = self._of_node[kind].get(node, {}).get(key)
        return found if found is not None and _is_fresh(found, now_ms) else None

    def readings(self, kind: Kind, *, now_ms: int, node: str | None = None) -> Iterator[Reading]:
        """The newest row of every series that has a new one, of one node or of all."""
        nodes = self._of_node[kind]
        for readings in list(nodes.values()) if node is None else [nodes.get(node, {})]:
            for reading in list(readings.values()):
                if _is_fresh(reading, now_ms):
                    yield reading

    def version_of(self, node: str) -> int:
        """The version at which something of a node came last; 0 when nothing has."""
        return self._changed.get(node, 0)

    def nodes_changed_since(self, version: int) -> list[str]:
        """The nodes of which something has come since that version."""
        return sorted(node for node, at in self._changed.items() if at > version)

    def forget_silent(self, *, now_ms: int) -> None:
        """Let go of what can't be shown any more: tasks end, and nodes go."""
        for nodes in self._of_node.values():
            for node, readings in list(nodes.items()):
                for key in [k for k, found in readings.items() if not _is_fresh(found, now_ms)]:
                    del readings[key]
                if not readings:
                    del nodes[node]
        alive = self._of_node[Kind.HOST].keys() | self._of_node[Kind.DEVICE].keys()
        for node in self._changed.keys() - alive:
            del self._changed[node]
            self.details.pop(node, None)


def _is_fresh(reading: Reading, now_ms: int) -> bool:
    return now_ms - reading.taken_at_ms <= LATEST_WINDOW_MS
