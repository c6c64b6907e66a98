"""Measurements on their way to a service that loses answers, refuses, or is away."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.client import RefusedError, ServiceClient, UnreachableError
from agent.clock import Clock
from agent.samples.sample_spool import SampleSpool
from agent.samples.shipping import SampleShipper
from agent.samples.windows import Window
from protocol.samples import BATCHES_MAX
from telemetry.samples import DiskCounters
from tests.agent_service import LOSE_ANSWER, NODE_TOKEN, AgentService, rows
from tests.unit.agent.looks import device, host, look


@dataclass
class Sender:
    """What an agent measures and ships with, without its clockwork: the test makes the time."""

    shipper: SampleShipper
    spool: SampleSpool
    window: Window
    seconds: float = 0.0
    rows: int = 0

    def measure(self, windows: int = 1, devices: int = 1) -> None:
        """Full windows, one after the other."""
        done = 0
        while done < windows:
            seen = tuple(device(f"GPU-{n}", utilization_percent=50) for n in range(devices))
            batch = self.window.add(look(self.seconds, host=host(), devices=seen))
            self.seconds += 1
            if batch is not None:
                self.spool.add(batch)
                self.rows += rows(batch)
                done += 1


@pytest.fixture
async def sender(service: AgentService, tmp_path: Path) -> AsyncIterator[Sender]:
    client = ServiceClient(service.url, token=NODE_TOKEN)
    spool = SampleSpool(tmp_path / "samples", most_bytes=1 << 20)
    window = Window(epoch="e", seconds=1)
    shipper = SampleShipper(node="n1", spool=spool, window=window, client=client, now=Clock().now)
    yield Sender(shipper, spool, window)
    await client.close()


def stored_rows(service: AgentService) -> int:
    return sum(rows(batch) for batch in service.batches.values())


def stored_seqs(service: AgentService) -> list[list[int]]:
    return [[batch.seq for batch in form.batches] for form in service.sample_reports]


async def test_a_batch_is_stored_as_it_was_made(service: AgentService, sender: Sender) -> None:
    sender.shipper.add_host(host(disks=(DiskCounters(name="sda", read_bytes=1, written_bytes=2),)))
    sender.measure(devices=2)
    await sender.shipper.ship()
    [form] = service.sample_reports
    assert (form.node, form.dropped_rows, len(form.disks)) == ("n1", 0, 1)
    [batch] = form.batches
    assert (batch.epoch, batch.seq, rows(batch)) == ("e", 1, 3)
    await sender.shipper.ship()
    assert len(service.sample_reports) == 1, "nothing to say"


async def test_only_what_is_large_is_compressed(service: AgentService, sender: Sender) -> None:
    sender.measure()
    await sender.shipper.ship()
    sender.measure(devices=1000)
    await sender.shipper.ship()
    assert service.sample_encodings == [None, "gzip"]
    assert stored_rows(service) == sender.rows == 2 + 1001


async def test_after_a_lost_answer_the_same_batch_comes_again_under_the_same_name(
    service: AgentService, sender: Sender
) -> None:
    service.sample_statuses.append(LOSE_ANSWER)
    sender.measure()
    with pytest.raises(UnreachableError):
        await sender.shipper.ship()
    await sender.shipper.ship()
    assert stored_seqs(service) == [[1], [1]]
    assert service.sample_reports[0].batches == service.sample_reports[1].batches
    assert (service.duplicates, stored_rows(service)) == (1, sender.rows)


@pytest.mark.parametrize(("status", "seconds"), [(429, 3.0), (503, None)])
async def test_a_service_that_asks_for_a_pause_gets_the_batch_later(
    service: AgentService, sender: Sender, status: int, seconds: float | None
) -> None:
    service.sample_statuses.append(status)
    sender.measure()
    with pytest.raises(UnreachableError) as refused:
        await sender.shipper.ship()
    assert refused.value.retry_after_seconds == seconds
    await sender.shipper.ship()
    assert stored_seqs(service) == [[1]]
    assert sender.spool.dropped_rows == 0


async def test_after_an_outage_the_newest_comes_first_then_the_backlog_oldest_first(
    service: AgentService, sender: Sender
) -> None:
    service.backlog_batches = 3
    sender.measure()
    await sender.shipper.ship()
    service.samples_away = True
    for _ in range(10):
        sender.measure()
        with pytest.raises(UnreachableError):
            await sender.shipper.ship()
    service.samples_away = False
    for _ in range(4):
        sender.measure()
        await sender.shipper.ship()
    await sender.shipper.ship()
    assert stored_seqs(service) == [
        [1],
        [12],
        [13, 2, 3, 4],
        [14, 5, 6, 7],
        [15, 8, 9, 10],
        [11],
    ]
    assert (service.duplicates, stored_rows(service)) == (0, sender.rows)


async def test_before_the_service_has_granted_any_no_backlog_goes_along(
    service: AgentService, sender: Sender
) -> None:
    sender.measure(windows=5)
    await sender.shipper.ship()
    await sender.shipper.ship()
    assert stored_seqs(service) == [[5], [1, 2, 3, 4]]


async def test_a_service_that_grants_too_much_gets_no_more_than_a_report_may_have(
    service: AgentService, sender: Sender
) -> None:
    service.backlog_batches = 10_000
    sender.measure()
    await sender.shipper.ship()
    sender.measure(windows=BATCHES_MAX + 10)
    await sender.shipper.ship()
    assert len(service.sample_reports[-1].batches) == BATCHES_MAX


async def test_a_report_that_is_too_large_goes_in_halves_and_the_next_is_smaller(
    service: AgentService, sender: Sender
) -> None:
    service.backlog_batches = 100
    sender.measure()
    await sender.shipper.ship()
    sender.measure(windows=8)
    service.most_batches = 3
    await sender.shipper.ship()
    assert [len(seqs) for seqs in stored_seqs(service)] == [1, 2, 2, 2, 2]
    sender.measure(windows=8)
    asked = len(service.sample_encodings)
    while stored_rows(service) < sender.rows:
        await sender.shipper.ship()
    refused = len(service.sample_encodings) - asked - (len(service.sample_reports) - 5)
    assert refused <= 2
    assert (service.duplicates, sender.spool.dropped_rows) == (0, 0)


@pytest.mark.parametrize("bad", [1, 4, 7])
async def test_one_bad_batch_is_found_dropped_and_counted_and_holds_up_no_other(
    service: AgentService, sender: Sender, bad: int
) -> None:
    service.bad_batches = {bad}
    service.backlog_batches = 100
    sender.measure(windows=6)
    await sender.shipper.ship()
    sender.measure()
    await sender.shipper.ship()
    assert sorted(seq for _, seq in service.batches) == [n for n in range(1, 8) if n != bad]
    assert sender.spool.dropped_rows == 2
    sender.measure()
    await sender.shipper.ship()
    assert service.sample_reports[-1].dropped_rows == 2
    assert service.duplicates == 0


async def test_a_batch_that_is_too_large_by_itself_is_dropped_and_counted(
    service: AgentService, sender: Sender
) -> None:
    service.most_batches = 0
    sender.measure()
    await sender.shipper.ship()
    assert sender.spool.dropped_rows == 2
    service.most_batches = 256
    sender.measure()
    await sender.shipper.ship()
    assert stored_seqs(service) == [[2]]


async def test_a_service_that_does_not_want_the_node_ends_it_and_loses_nothing(
    service: AgentService, sender: Sender
) -> None:
    service.sample_statuses.append(401)
    sender.measure()
    with pytest.raises(RefusedError) as refused:
        await sender.shipper.ship()
    assert refused.value.status == 401
    await sender.shipper.ship()
    assert stored_rows(service) == sender.rows


async def test_an_outage_in_the_middle_of_halves_doubles_and_loses_nothing(
    service: AgentService, sender: Sender
) -> None:
    service.backlog_batches = 100
    sender.measure()
    await sender.shipper.ship()
    sender.measure(windows=8)
    service.sample_statuses.extend((413, None, 503))
    with pytest.raises(UnreachableError):
        await sender.shipper.ship()
    assert [len(seqs) for seqs in stored_seqs(service)] == [1, 4]
    while stored_rows(service) < sender.rows:
        await sender.shipper.ship()
    assert (service.duplicates, sender.spool.dropped_rows) == (0, 0)


async def test_the_service_says_for_how_long_a_row_stands(
    service: AgentService, sender: Sender
) -> None:
    service.sample_interval_seconds = 10.0
    sender.measure()
    await sender.shipper.ship()
    assert sender.window.seconds == 10
