"""Nodes: joining, coming back, cordoning, leaving. Never commits: the request owns the
transaction."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import selectinload

from app.allocations.service import live_on
from app.auth import digest, new_token
from app.db.tables import Allocation, Device, Node, Quarantine, Task
from app.deps import Context, JoinPermit, NodePrincipal
from app.errors import ConflictError, ForbiddenError, NotFoundError, UnsupportedVersionError
from app.events.service import EventKind, record
from app.nodes import join_tokens
from app.nodes.schemas import Allocated, DeviceUse, DeviceView, NodeTask, NodeView
from app.nodes.states import NodeState
from app.quarantine import service as quarantines
from protocol import VERSION
from protocol.node import Registration
from protocol.report import Report
from protocol.samples import SampleReport
from protocol.task import LeasePolicy
from telemetry.samples import DeviceInventory, Inventory


def require_version(version: int) -> None:
    """Refuse an agent that speaks another version, before anything that it says is believed."""
    if version != VERSION:
        raise UnsupportedVersionError(
            f"this service speaks version {VERSION} of the agent protocol, not {version}: "
            "install the same release of stowplan on both"
        )


def require_own(principal: NodePrincipal, report: Report | SampleReport) -> None:
    """Refuse a report in another node's name, or in words of another version."""
    require_version(report.version)
    if report.node != principal.name:
        raise ForbiddenError(f"this is the token of node {principal.name!r}, not {report.node!r}")


async def register(
    ctx: Context,
    session: AsyncSession,
    form: Registration,
    principal: NodePrincipal | JoinPermit,
) -> tuple[Node, str | None]:
    """A node joins (gets its token) or comes back (keeps it)."""
    require_version(form.version)
    if isinstance(principal, NodePrincipal) and principal.name != form.node:
        raise ForbiddenError(
            f"this is the token of node {principal.name!r}: it can't register {form.node!r}"
        )
    node = await session.scalar(
        select(Node).where(Node.name == form.node).options(selectinload(Node.devices))
    )
    if isinstance(principal, JoinPermit):
        if node is not None and await _joins_again(session, node, form, principal):
            token = new_token("node")
            node.token_digest = digest(token)
            return node, token
        if principal.token_id is not None:
            await join_tokens.consume(ctx, session, principal.token_id, form.node)
        if node is not None:
            raise ConflictError(
                f"a node named {form.node!r} has joined before and has its own token. If its state "
                f"directory is lost, remove the node first (DELETE /api/v1/nodes/{form.node}) "
                "or choose another name"
            )
        return _join(ctx, session, form)
    if node is None:
        raise NotFoundError(f"node {form.node!r} was removed: join it again with the join token")
    _describe(node, form)
    apply_inventory(node, form.inventory)
    node.last_seen_at = ctx.clock.now()
    return node, None


async def _joins_again(
    session: AsyncSession, node: Node, form: Registration, permit: JoinPermit
) -> bool:
    """Whether the answer to its joining was lost: the same machine, by the same token, and it has
    never spoken since. It would otherwise have used up its token for nothing."""
    return (
        permit.token_id is not None
        and node.epoch is None
        and node.boot_id == form.inventory.host.boot_id
        and await join_tokens.was_used_for(session, permit.token_id, node.name)
    )


def _join(ctx: Context, session: AsyncSession, form: Registration) -> tuple[Node, str]:
    now = ctx.clock.now()
    token = new_token("node")
    node = Node(
        name=form.node,
        state=NodeState.READY,
        schedulable=True,
        token_digest=digest(token),
        boot_id=form.inventory.host.boot_id,
        seq=0,
        revision=0,
        registered_at=now,
        last_seen_at=now,
        devices=[],
    )
    _describe(node, form)
    apply_inventory(node, form.inventory)
    session.add(node)
    record(
        session,
        at=now,
        kind=EventKind.NODE_JOINED,
        node=form.node,
        message=f"joined with {_devices_in_words(form.inventory.devices)}",
    )
    return node, token


def _describe(node: Node, form: Registration) -> None:
    node.address = form.address
    node.labels = dict(form.labels)
    node.domains = dict(form.domains)


def apply_inventory(node: Node, inventory: Inventory) -> None:
    """What the machine has now. A device that is gone stays as unhealthy: tasks may still hold
    it."""
    host = inventory.host
    node.cpu_milli = host.cpu_milli
    node.memory_mib = host.memory_mib
    node.disk_mib = host.disk_mib
    node.network_mbps = host.network_mbps
    node.host = {
        "hostname": host.hostname,
        "kernel": host.kernel,
        "cpu_model": host.cpu_model,
        "device_source": inventory.device_source,
        "device_message": inventory.device_message,
        "driver_version": inventory.driver_version,
        "cuda_version": inventory.cuda_version,
    }
    known = {device.uuid: device for device in node.devices}
    reported = {device.uuid: device for device in inventory.devices}
    for uuid, device in reported.items():
        row = known.get(uuid)
        if row is None:
            row = Device(uuid=uuid)
            node.devices.append(row)
        for name, value in asdict(device).items():
            if name in _DEVICE_COLUMNS:
                setattr(row, name, value)
    for uuid, row in known.items():
        if uuid not in reported:
            row.healthy = False
            row.fault = "the node no longer reports this device"


_DEVICE_COLUMNS = frozenset(
    {"uuid", "index", "model", "memory_mib", "numa", "links", "healthy", "fault", "simulated"}
)


def _devices_in_words(devices: Sequence[DeviceInventory]) -> str:
    if not devices:
        return "no GPU"
    counts: dict[str, int] = defaultdict(int)
    for device in devices:
        simulated = device.simulated and device.model != "simulated"
        counts[f"simulated {device.model}" if simulated else device.model] += 1
    return ", ".join(f"{count} x {model}" for model, count in sorted(counts.items()))


async def get(session: AsyncSession, name: str) -> Node:
    node = await session.scalar(
        select(Node).where(Node.name == name).options(selectinload(Node.devices))
    )
    if node is None:
        raise NotFoundError(f"no node is named {name!r}: see stowplan nodes")
    return node


async def page(session: AsyncSession, *, after: str | None, limit: int) -> Sequence[Node]:
    query = select(Node).options(selectinload(Node.devices)).order_by(Node.name).limit(limit)
    if after is not None:
        query = query.where(Node.name > after)
    return (await session.scalars(query)).all()


async def set_schedulable(
    ctx: Context, session: AsyncSession, name: str, *, schedulable: bool
) -> Node:
    """Cordon a node, or let it take tasks again: that also ends a drain and maintenance."""
    node = await get(session, name)
    if not schedulable:
        cordon(ctx, session, node)
    elif not node.schedulable or node.drain_until is not None:
        node.schedulable = True
        node.drain_until = None
        node.drain_reason = ""
        node.maintenance_since = None
        record(
            session,
            at=ctx.clock.now(),
            kind=EventKind.NODE_UNCORDONED,
            node=name,
            message="takes new tasks again",
        )
    return node


def cordon(ctx: Context, session: AsyncSession, node: Node, reason: str = "") -> bool:
    """Give a node nothing new; False when it gets nothing new already."""
    if not node.schedulable:
        return False
    node.schedulable = False
    node.drain_reason = reason
    record(
        session,
        at=ctx.clock.now(),
        kind=EventKind.NODE_CORDONED,
        node=node.name,
        message="takes no new task; what runs there stays" + (f": {reason}" if reason else ""),
    )
    return True


async def remove(ctx: Context, session: AsyncSession, name: str) -> None:
    """Forget a node, and with it its token. Refused while it speaks or holds tasks."""
    node = await get(session, name)
    if node.state == NodeState.READY:
        raise ConflictError(f"node {name!r} is alive: stop its agent first, then remove it")
    if await live_on(session, [node.id]):
        raise ConflictError(
            f"node {name!r} still holds tasks: remove it when its lease has run out"
        )
    ctx.progress.forget(node.id)
    held = await session.scalar(select(Allocation.id).where(Allocation.node_id == node.id).limit(1))
    if held is not None:
        # Past allocations keep pointing at the node they ran on: it loses its name and token, not
        # its row.
        node.name = f"removed-{node.id}"
        node.token_digest = ""
        node.schedulable = False
        node.drain_until = None
        node.state = NodeState.LOST
    else:
        await session.execute(delete(Device).where(Device.node_id == node.id))
        await session.execute(delete(Node).where(Node.id == node.id))
    record(
        session,
        at=ctx.clock.now(),
        kind=EventKind.NODE_REMOVED,
        node=name,
        message="removed by a user",
    )


async def views(session: AsyncSession, nodes: Sequence[Node]) -> list[NodeView]:
    held: dict[int, list[Allocation]] = defaultdict(list)
    ids = [node.id for node in nodes]
    for allocation in await live_on(session, ids):
        held[allocation.node_id].append(allocation)
    quarantined = await quarantines.active(session, nodes=ids)
    return [_view(node, held[node.id], quarantined) for node in nodes]


def _view(
    node: Node,
    held: Sequence[Allocation],
    quarantined: Mapping[quarantines.DeviceKey, Sequence[Quarantine]],
) -> NodeView:
    users: dict[str, list[DeviceUse]] = defaultdict(list)
    of_task: dict[str, list[Allocation]] = defaultdict(list)
    kept_off = {
        device.uuid: quarantines.in_words(quarantined.get((node.id, device.uuid), ()))
        for device in node.devices
    }
    cpu_milli = memory_mib = gpu_milli = 0
    for allocation in held:
        request = allocation.task.spec["request"]
        cpu_milli += request["cpu_milli"]
        memory_mib += request["memory_mib"]
        gpu_milli += request["gpu_milli"] * len(allocation.devices)
        of_task[allocation.task_id].append(allocation)
        for uuid in allocation.devices:
            users[uuid].append(_use(allocation.task, allocation.replica, request["gpu_milli"]))
    return NodeView(
        name=node.name,
        state=node.state,
        schedulable=node.schedulable,
        address=node.address,
        hostname=node.host["hostname"],
        kernel=node.host["kernel"],
        cpu_model=node.host["cpu_model"],
        cpu_milli=node.cpu_milli,
        memory_mib=node.memory_mib,
        disk_mib=node.disk_mib,
        network_mbps=node.network_mbps,
        labels=node.labels,
        domains=node.domains,
        device_source=node.host["device_source"],
        device_message=node.host["device_message"],
        devices=[
            DeviceView(
                uuid=device.uuid,
                index=device.index,
                model=device.model,
                memory_mib=device.memory_mib,
                numa=device.numa,
                links=device.links,
                healthy=device.healthy and kept_off[device.uuid] is None,
                fault=device.fault or kept_off[device.uuid],
                simulated=device.simulated,
                used_by=users[device.uuid],
            )
            for device in node.devices
        ],
        allocated=Allocated(cpu_milli=cpu_milli, memory_mib=memory_mib, gpu_milli=gpu_milli),
        tasks=[_node_task(replicas) for replicas in of_task.values()],
        drain_until=node.drain_until,
        drain_reason=node.drain_reason,
        leaving=len(of_task) if node.drain_until is not None else 0,
        maintenance_since=node.maintenance_since,
        registered_at=node.registered_at,
        last_seen_at=node.last_seen_at,
    )


def _use(task: Task, replica: int, gpu_milli: int) -> DeviceUse:
    return DeviceUse(task=task.id, name=task.name, replica=replica, gpu_milli=gpu_milli)


def _node_task(replicas: Sequence[Allocation]) -> NodeTask:
    task = replicas[0].task
    return NodeTask(
        task=task.id,
        name=task.name,
        state=task.state,
        replicas=len(replicas),
        on_lease_lost=LeasePolicy(task.spec.get("on_lease_lost", LeasePolicy.FENCE)),
    )
