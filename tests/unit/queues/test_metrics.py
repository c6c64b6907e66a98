"""How many queues are told to Prometheus: names that nobody created are users' words."""

from app.metrics.queues import QUEUES_MAX, bounded
from app.queues.schemas import QueueView


def queue(name: str, *, implicit: bool) -> QueueView:
    return QueueView(
        name=name,
        parent=None,
        depth=0,
        implicit=implicit,
        weight=1,
        guaranteed={},
        limit={},
        min_runtime_seconds=None,
        comment="",
        created_at=None,
        in_use={},
        running=0,
        pending=0,
        entitlement={},
        borrowed={},
        usage_gpu_hours=0,
    )


def test_what_somebody_created_is_always_told_and_the_rest_while_there_is_room() -> None:
    words = [queue(f"a{i:04}", implicit=True) for i in range(QUEUES_MAX)]
    created = [queue(f"b{i}", implicit=False) for i in range(3)]
    shown = bounded([*words, *created])
    assert shown == [*words[: QUEUES_MAX - 3], *created]
    many = [queue(f"c{i}", implicit=False) for i in range(QUEUES_MAX + 1)]
    assert bounded([*words, *many]) == many
