"""Queues as the API shows them: what was defined, and how it stands now."""

from collections.abc import Mapping, Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from app.db.tables import Queue
from app.deps import Context
from app.errors import NotFoundError
from app.queues import live, usage
from app.queues.live import Holding
from app.queues.schemas import QueueView
from app.queues.service import all_queues
from app.queues.tree import Tree

_USE_SHOWN_GPU_SECONDS = 36.0
"""A hundredth of a GPU hour: with less behind it, a queue that nobody defined isn't shown."""


async def views(ctx: Context, session: AsyncSession) -> Sequence[QueueView]:
    """Every queue that was created, that an unfinished task names, or that used something lately,
    in the order of the tree."""
    rows = {row.name: row for row in await all_queues(session)}
    holdings = await live.look(session)
    used = await usage.look(
        session,
        now=ctx.clock.now(),
        half_life_seconds=ctx.settings.usage_half_life_seconds,
    )
    shown = {queue for queue, value in used.items() if value >= _USE_SHOWN_GPU_SECONDS}
    parents: dict[str, str | None] = dict.fromkeys({*holdings, *shown})
    parents |= {name: row.parent for name, row in rows.items()}
    tree = Tree(parents)
    in_use = tree.sums({queue: holding.in_use for queue, holding in holdings.items()})
    tasks = tree.sums({queue: holding.tasks for queue, holding in holdings.items()})
    hours = tree.sums({queue: {"": used[queue] / 3600} for queue in used if queue in parents})
    return [
        _view(
            rows.get(path[-1]) or _implicit(path[-1]),
            depth=len(path) - 1,
            holding=Holding(
                in_use=Holding().in_use | in_use.get(path[-1], {}),
                tasks=Holding().tasks | tasks.get(path[-1], {}),
            ),
            entitlement=ctx.shares.entitlements.get(path[-1], {}),
            usage_gpu_hours=hours.get(path[-1], {}).get("", 0.0),
        )
        for path in tree.paths
    ]


async def view(ctx: Context, session: AsyncSession, name: str) -> QueueView:
    """One queue.

    Raises:
        NotFoundError: nobody defined it, and no task names it.
    """
    for found in await views(ctx, session):
        if found.name == name:
            return found
    raise NotFoundError(f"no queue is named {name!r}: see stowplan queue ls")


def _implicit(name: str) -> Queue:
    return Queue(
        name=name, parent=None, weight=1, guaranteed={}, limit={}, comment="", created_at=None
    )


def _view(
    queue: Queue,
    *,
    depth: int,
    holding: Holding,
    entitlement: Mapping[str, int],
    usage_gpu_hours: float,
) -> QueueView:
    beyond = {
        dimension: holding.in_use.get(dimension, 0) - quantity
        for dimension, quantity in entitlement.items()
    }
    return QueueView(
        name=queue.name,
        parent=queue.parent,
        depth=depth,
        implicit=queue.id is None,
        weight=queue.weight,
        guaranteed=queue.guaranteed,
        limit=queue.limit,
        min_runtime_seconds=queue.min_runtime_seconds,
        comment=queue.comment,
        created_at=queue.created_at,
        in_use=dict(sorted(holding.in_use.items())),
        running=holding.tasks["running"],
        pending=holding.tasks["pending"],
        entitlement=dict(sorted(entitlement.items())),
        borrowed={key: value for key, value in sorted(beyond.items()) if value > 0},
        usage_gpu_hours=round(usage_gpu_hours, 3),
    )
