"""/metrics: what is known of nodes, devices and tasks, and how measuring goes; no made-up zeros."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.db.samples.tables import Kind
from app.loops.rollups import RollupLoop
from app.metrics.exposition import Family, labels
from app.metrics.growth import Growth
from app.metrics.telemetry import Telemetry
from tests.integration.test_telemetry import running_task
from tests.service import ManualClock, Service, rows, running

DASHBOARD = Path(__file__).parents[2] / "docs" / "grafana" / "stowplan.json"
Samples = dict[str, list[tuple[dict[str, str], float]]]


@pytest.fixture
async def timed(tmp_path: Path, database_url: str, clock: ManualClock) -> AsyncIterator[Service]:
    async with running(tmp_path / "home", database_url, clock) as service:
        yield service


async def scrape(service: Service) -> Samples:
    answer = await service.user.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain")
    found: Samples = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            name = sample.name
            if name.startswith("DCGM"):  # the parser adds to counters what dcgm-exporter doesn't
                name = name.removesuffix("_total")
            found.setdefault(name, []).append((dict(sample.labels), sample.value))
    return found


async def test_devices_have_dcgms_names_labels_and_units(timed: Service) -> None:
    agent = await timed.join("n1", gpus=1, model='Tesla "V"\\')
    now = timed.now_ms()
    await agent.measure(
        devices=rows(
            [now],
            of=["SIM-n1-0"],
            utilization_percent=[37.5],
            memory_used_mib=[100],
            energy_joules=[12.5],
            sm_active_percent=[25],
            thermal_violation_seconds=[0.5],
            temperature_celsius=[0],
        )
    )
    found = await scrape(timed)
    named = {
        "gpu": "0",
        "UUID": "SIM-n1-0",
        "device": "nvidia0",
        "modelName": 'Tesla "V"\\',
        "Hostname": "n1",
        "simulated": "true",
    }
    assert found["DCGM_FI_DEV_GPU_UTIL"] == [(named, 37.5)]
    assert found["DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"][0][1] == 12_500
    assert found["DCGM_FI_PROF_SM_ACTIVE"][0][1] == 0.25
    assert found["DCGM_FI_DEV_THERMAL_VIOLATION"][0][1] == 500_000
    assert found["DCGM_FI_DEV_GPU_TEMP"][0][1] == 0
    assert "DCGM_FI_DEV_POWER_USAGE" not in found, "unknown is absent"
    assert "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE" not in found


async def test_measuring_is_measured_too(timed: Service) -> None:
    agent = await timed.join("n1", gpus=1)
    now = timed.now_ms()
    part = rows([now], of=["GPU-of-another"], power_watts=[1])
    await agent.measure(devices=part, host=rows([now], load_1m=[1]))
    before = await scrape(timed)
    assert before["stowplan_samples_rows_stored_total"] == [({}, 1)]
    assert before["stowplan_samples_unknown_total"] == [({}, 1)]
    assert before["stowplan_samples_queue_fill"] == [({}, 0)]
    assert before["stowplan_node_clock_offset_seconds"] == [({"node": "n1"}, 0)]
    assert before["stowplan_nodes"] == [({"state": "ready"}, 1)]
    assert sum(size for _, size in before["stowplan_samples_table_bytes"]) > 0
    assert "stowplan_samples_disk_full_in_seconds" not in before


async def test_every_metric_of_the_dashboard_is_exported(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with running(tmp_path / "home", clock=clock) as service:
        agent = await service.join("n1", gpus=1)
        _, allocation = await running_task(service, agent, name="train", request={"gpus": 1})
        await scrape(service)
        for _ in range(2):
            clock.advance(1_000)
            now = service.now_ms()
            of = {Kind.HOST: None, Kind.DEVICE: ["SIM-n1-0"], Kind.TASK: [allocation["id"]]}
            parts = {
                part: rows([now], of=of[kind], **{column.name: [1] for column in kind.columns})
                for part, kind in (
                    ("host", Kind.HOST), ("devices", Kind.DEVICE), ("tasks", Kind.TASK),
                )
            }  # fmt: skip
            await agent.measure(**parts)
            many = [now - n for n in range(2_000)]
            await agent.measure(devices=rows(many, of=["SIM-n1-0"] * 2_000))
        telemetry: Telemetry = service.app.state.telemetry
        loop = await service.take_over(RollupLoop(service.context, telemetry.roller))
        await loop.tick()
        exported = set(await scrape(service))
    used = set(re.findall(r"\b(?:stowplan|DCGM)_\w+", DASHBOARD.read_text()))
    assert len(used) > 40
    assert used <= exported, used - exported


def test_the_dashboard_has_a_row_each_for_fleet_node_and_task() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    rows_ = [panel["title"] for panel in panels if panel["type"] == "row"]
    assert rows_ == ["Fleet", "Node $node", "Task $task"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["type"] == "row" or all(target["expr"] for target in panel["targets"])


def test_time_until_it_is_full_needs_growth_and_ten_minutes() -> None:
    growth = Growth()
    assert growth.seconds_until(100) is None
    growth.note(0, 1_000)
    growth.note(300_000, 2_000)
    assert growth.seconds_until(100) is None
    growth.note(1_000_000, 3_000)
    assert growth.seconds_until(4_000) == pytest.approx(2_000)
    growth.note(2_000_000, 500)
    assert growth.seconds_until(4_000) is None
    growth.note(30_000_000, 1_500)
    growth.note(31_000_000, 2_500)
    assert growth.seconds_until(1_000) == pytest.approx(1_000), "what was long ago counts no more"


def test_labels_are_escaped_and_unknown_values_have_no_line() -> None:
    family = Family(name="m", about="x")
    assert family.text([("", None)]) == ""
    assert family.text([(labels({"a": 'b"\n\\'}), 2**53)]).splitlines()[-1] == (
        r'm{a="b\"\n\\"} 9007199254740992'
    )
