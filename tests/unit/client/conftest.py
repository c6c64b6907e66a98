"""The server's JSON, made by the server's own forms: a change there breaks the tests here."""

from datetime import UTC, datetime
from typing import Any

import pytest

from app.nodes.schemas import Allocated, DeviceUse, DeviceView, NodeView
from app.tasks.schemas import AllocationView, DeviceRef, TaskView
from protocol.task import TaskSpec

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class Documents:
    """Makes tasks and nodes as the API gives them."""

    def allocation(self, node: str, *indexes: int, simulated: bool = False, rank: int = 0) -> Any:
        devices = [
            DeviceRef(uuid=f"GPU-{node}-{index}", index=index, model="A100", simulated=simulated)
            for index in indexes
        ]
        return AllocationView(
            id=f"a-{node}-{rank}",
            replica=rank,
            rank=rank,
            generation=1,
            node=node,
            devices=devices,
            phase="run",
            state="running",
            port=None,
            endpoint=None,
            pid=4711,
            exit_code=None,
            exit_signal=None,
            reason="",
            assigned_at=NOON,
            started_at=NOON,
            ended_at=None,
        )

    def task(self, *allocations: Any, **changes: Any) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "id": "t-1",
            "name": "train",
            "kind": "batch",
            "queue": "default",
            "priority": 0,
            "state": "running",
            "reason": "",
            "generation": 1,
            "failures": 0,
            "submitted_at": NOON,
            "started_at": NOON,
            "finished_at": None,
            "running_seconds": 65.0,
            "allocations": list(allocations),
            "plan": "p-1",
            "spec": TaskSpec(argv=("python", "a b.py")),
        }
        return TaskView(**(fields | changes)).model_dump(mode="json")

    def node(self, **changes: Any) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "name": "n1",
            "state": "ready",
            "schedulable": True,
            "address": "10.0.0.1",
            "hostname": "n1.example.org",
            "kernel": "6.1",
            "cpu_model": None,
            "cpu_milli": 8000,
            "memory_mib": 32768,
            "disk_mib": 0,
            "network_mbps": 0,
            "labels": {"zone": "a"},
            "domains": {},
            "device_source": "nvml",
            "device_message": None,
            "devices": [self.device(0)],
            "tasks": [],
            "drain_until": None,
            "drain_reason": "",
            "leaving": 0,
            "maintenance_since": None,
            "allocated": Allocated(cpu_milli=1500, memory_mib=512, gpu_milli=500),
            "registered_at": NOON,
            "last_seen_at": NOON,
        }
        return NodeView(**(fields | changes)).model_dump(mode="json")

    def device(self, index: int, **changes: Any) -> DeviceView:
        fields: dict[str, Any] = {
            "uuid": f"GPU-{index}",
            "index": index,
            "model": "A100",
            "memory_mib": 40960,
            "numa": None,
            "links": {},
            "healthy": True,
            "fault": None,
            "simulated": False,
            "used_by": [],
        }
        return DeviceView(**(fields | changes))

    def use(self, name: str, gpu_milli: int) -> DeviceUse:
        return DeviceUse(task=f"t-{name}", name=name, replica=0, gpu_milli=gpu_milli)


@pytest.fixture
def documents() -> Documents:
    return Documents()
