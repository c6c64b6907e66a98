"""What the service has measured, as Python methods: ``Client().telemetry``."""

from collections.abc import Iterator, Sequence
from typing import Any

from client.transport import Transport, part_of_path

Json = dict[str, Any]
_PATH = "/api/v1/telemetry"


class Measurements:
    """Of one service. Times are milliseconds since 1970; None in an answer is "unknown", not zero.

    Every method raises :class:`client.errors.StowplanError`, as those of ``Client`` do.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def latest(self, node: str | None = None) -> list[Json]:
        """The newest sample of each node, its devices and the replicas that run there."""
        query = {"node": node}
        return self._transport.call("GET", f"{_PATH}/latest", params=query)["items"]

    def node(self, name: str, **query: Any) -> Json:
        """A host and its devices over time, as columns for a chart.

        Args:
            query: ``start_ms``, ``end_ms`` (default: the last hour), ``points``, and ``fields``:
                names of metrics with commas between.
        """
        return self._series("nodes", name, query)

    def device(self, uuid: str, **query: Any) -> Json:
        """The same of one device."""
        return self._series("devices", uuid, query)

    def task(self, task: str, **query: Any) -> Json:
        """The same of each replica of a task."""
        return self._series("tasks", task, query)

    def _series(self, of: str, name: str, query: Json) -> Json:
        path = f"{_PATH}/{of}/{part_of_path(name)}"
        return self._transport.call("GET", path, params=query)

    def top(
        self, metric: str, *, of: str = "device", n: int = 10, order: str = "most"
    ) -> Sequence[Json]:
        """The nodes, devices or tasks' replicas with most (or ``order="least"``) of a metric now.

        What isn't known is left out.
        """
        query = {"metric": metric, "of": of, "n": n, "order": order}
        return self._transport.call("GET", f"{_PATH}/top", params=query)["items"]

    def aggregate(self, by: str, *, start_ms: int | None = None, end_ms: int | None = None) -> Json:
        """Sums over a range (default: the last day) by ``queue``, ``task``, ``model`` or ``node``:
        GPU-hours held and unused, energy, utilisation. The answer says which range was read."""
        query = {"by": by, "start_ms": start_ms, "end_ms": end_ms}
        return self._transport.call("GET", f"{_PATH}/aggregate", params=query)

    def export(self, **query: Any) -> Iterator[bytes]:
        """Measurements as a file, piece by piece.

        Args:
            query: ``of`` (node, device, task), ``format`` (csv, arrow, parquet), ``resolution``
                (samples, minutes, hours), ``start_ms``, ``end_ms``, ``node``, ``device``, ``task``.
        """
        return self._transport.download(f"{_PATH}/export", params=query)
