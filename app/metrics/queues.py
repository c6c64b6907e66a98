"""How queues stand, for Prometheus."""

from collections.abc import Sequence

from app.deps import Context
from app.metrics.exposition import Family, labels
from app.queues import views
from app.queues.schemas import QueueView

QUEUES_MAX = 1_000
"""Names that nobody created are users' words: beyond so many queues those have no lines."""

_IN_USE = Family(name="stowplan_queue_in_use", about="Held by a queue and those below it.")
_ENTITLEMENT = Family(
    name="stowplan_queue_entitlement", about="What it may hold, by the last round of planning."
)
_GUARANTEED = Family(name="stowplan_queue_guaranteed", about="What it can always have back.")
_TASKS = Family(name="stowplan_queue_tasks", about="Unfinished tasks of it and those below it.")
_USAGE = Family(
    name="stowplan_queue_usage_gpu_hours", about="GPU time held lately, fading with a half-life."
)


async def exposition(ctx: Context) -> str:
    """The text of all of it."""
    async with ctx.database.read() as session:
        shown = bounded(await views.views(ctx, session))
    return "".join(
        (
            _IN_USE.text(_by_dimension(shown, "in_use")),
            _ENTITLEMENT.text(_by_dimension(shown, "entitlement")),
            _GUARANTEED.text(_by_dimension(shown, "guaranteed")),
            _TASKS.text(
                (labels({"queue": view.name, "state": word}), count)
                for view in shown
                for word, count in (("running", view.running), ("pending", view.pending))
            ),
            _USAGE.text((labels({"queue": one.name}), one.usage_gpu_hours) for one in shown),
        )
    )


def bounded(found: Sequence[QueueView]) -> list[QueueView]:
    """All that somebody created, and of the others as many as there is room for."""
    created = sum(not view.implicit for view in found)
    room = QUEUES_MAX - created
    shown = []
    for view in found:
        if view.implicit:
            room -= 1
        if not view.implicit or room >= 0:
            shown.append(view)
    return shown


def _by_dimension(shown: list[QueueView], field: str) -> list[tuple[str, float | None]]:
    return [
        (labels({"queue": view.name, "dimension": dimension}), quantity)
        for view in shown
        for dimension, quantity in getattr(view, field).items()
    ]
