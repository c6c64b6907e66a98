"""Reports that say nothing new: their lease is renewed, and no row is touched.

Most reports are such. What a node last said is remembered from the transaction that recorded it;
whoever judges the node otherwise meanwhile lets it be forgotten, so that the next report counts in
full.
"""

from dataclasses import dataclass

from protocol.report import AllocationState, Report

LISTEN_AGAIN_SECONDS = 300.0
"""At the latest then a report is recorded all the same."""


@dataclass(slots=True)
class _Said:
    epoch: str
    seq: int
    boot_id: str
    allocations: tuple[object, ...]
    revision: int
    recorded_at: float


class QuietReports:
    """What each node last said that was recorded. In memory: a restarted service listens anew."""

    def __init__(self) -> None:
        self._said: dict[int, _Said] = {}

    def forget(self, node_id: int) -> None:
        self._said.pop(node_id, None)

    def recorded(self, node_id: int, report: Report, revision: int, now: float) -> None:
        self._said[node_id] = _Said(
            report.epoch, report.seq, report.boot_id, report.allocations, revision, now
        )

    def is_overtaken(self, node_id: int, report: Report) -> bool:
        """Whether a later one of the same run of the agent has come before it."""
        said = self._said.get(node_id)
        return said is not None and report.epoch == said.epoch and report.seq <= said.seq

    def revision_if_quiet(self, node_id: int, report: Report, now: float) -> int | None:
        """The node's revision as last known when there's nothing to record; None otherwise."""
        said = self._said.get(node_id)
        if (
            said is None
            or report.epoch != said.epoch
            or report.seq <= said.seq
            or report.boot_id != said.boot_id
            or report.inventory is not None
            or report.events
            or now - said.recorded_at > LISTEN_AGAIN_SECONDS
            or report.allocations != said.allocations
            or any(one.state is AllocationState.EXITED for one in report.allocations)
        ):
            return None
        said.seq = report.seq
        return said.revision
