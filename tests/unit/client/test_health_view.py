"""Quarantines, findings, usage and advice as people read them: unknown is a dash."""

from datetime import UTC, datetime
from typing import Any

import pytest

from app.advice.schemas import AdviceView, SpreadView, TaskAdvice, UsageView
from app.advice.sizing import Confidence
from app.findings import FindingKind
from app.quarantine.schemas import QuarantineView
from app.tasks.schemas import IdleView
from app.watch.schemas import FindingView
from client import advice_view, health_view, views

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def quarantine(**changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "id": 7,
        "node": "n1",
        "uuid": "GPU-abc",
        "index": 3,
        "model": "H100",
        "simulated": False,
        "code": "xid",
        "reason": "Xid 79",
        "by_rule": True,
        "since": NOON,
        "released_at": None,
        "release_reason": "",
    }
    return QuarantineView(**(fields | changes)).model_dump(mode="json")


@pytest.mark.parametrize("wide", [False, True])
def test_quarantines_say_until_when(wide: bool) -> None:
    table = health_view.quarantine_table(
        [
            quarantine(),
            quarantine(by_rule=False),
            quarantine(index=None, model=None, released_at=NOON),
            quarantine(simulated=True),
        ],
        wide=wide,
    )
    until = [row[table.columns.index("UNTIL")] for row in table.rows]
    assert until[:2] == ["it is over", "released by hand"]
    assert until[2].startswith("2026-03-01")
    assert [row[1] for row in table.rows] == [
        "GPU 3",
        "GPU 3",
        "GPU GPU-abc",
        "simulated GPU 3",
    ]


def test_findings_of_tasks_and_of_devices_are_in_one_table() -> None:
    nothing: dict[str, Any] = {"since": None, "node": None, "device": None, "task": None}
    idle = FindingView(
        **nothing | {"task": "t-1", "since": NOON},
        kind=FindingKind.GONE_IDLE,
        text="does nothing",
        gpu_hours=1.5,
    )
    dark = FindingView(
        **nothing | {"node": "n1"}, kind=FindingKind.UNKNOWN, text="silent", gpu_hours=None
    )
    table = health_view.finding_table([one.model_dump(mode="json") for one in (idle, dark)])
    assert table.rows[0][:4] == ("gone_idle", "t-1", "-", "-")
    assert table.rows[1] == ("unknown", "-", "n1", "-", "-", "silent")


def test_an_idle_task_says_so_where_a_waiting_one_says_why(documents: Any) -> None:
    idle = IdleView(kind=FindingKind.HELD_BUT_IDLE, since=NOON, gpu_hours=2, text="no process")
    task = documents.task(idle=idle)
    assert views.task_table([task], why={}, wide=False).rows[0][-1] == "idle: no process"
    assert "idle:       no process" in views.task_lines(task)
    assert views.task_table([documents.task()], why={}, wide=False).rows[0][-1] == ""


def test_usage_shows_a_dash_for_what_was_not_measured() -> None:
    spread = SpreadView(peak=91.2, p95=80, p50=33.4, known_ratio=0.5)
    usage = UsageView(
        task="t-1",
        name="train",
        generation=2,
        replicas=1,
        held_seconds=7_300,
        measured_seconds=7_200,
        resolution_seconds=60,
        gpu_memory_mib=SpreadView(peak=20_480, p95=900, p50=1, known_ratio=1),
        gpu_utilization_percent=spread,
        cpu_cores=None,
        memory_mib=None,
    ).model_dump(mode="json")
    assert advice_view.usage_table(usage).rows == (
        ("GPU busy", "91%", "80%", "33%", "1h00m"),
        ("GPU memory", "20.0 GiB", "900 MiB", "1 MiB", "2h00m"),
        ("CPU cores", "-", "-", "-", "not at all"),
        ("memory", "-", "-", "-", "not at all"),
    )
    assert advice_view.usage_note(usage) == (
        "train (t-1), attempt 2, 1 replica, held 2h01m; percentiles are of minutes"
    )


def test_advice_has_a_row_for_each_word_of_a_request() -> None:
    def advice(field: str, gpu_hours: float) -> AdviceView:
        return AdviceView(
            field=field,
            now=1000,
            suggested=250,
            gpu_hours=gpu_hours,
            confidence=Confidence.LOW,
            text="because",
        )

    item = TaskAdvice(
        task="t-1",
        name="train",
        queue="default",
        state="running",
        measured_seconds=1,
        gpu_hours=7.5,
        advice=[advice("gpu_milli", 7.5), advice("memory_mib", 0)],
    )
    rows = advice_view.advice_table([item.model_dump(mode="json")]).rows
    assert [row[3:7] for row in rows] == [
        ("gpu_milli 250", "1000", "7.5", "low"),
        ("memory_mib 250", "1000", "-", "low"),
    ]
