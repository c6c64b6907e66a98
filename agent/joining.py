"""How a node joins a cluster, and joins anew when it was removed."""

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from agent.client import RefusedError, ServiceClient
from agent.spool import Spool
from protocol import VERSION
from protocol.node import Registered, Registration
from telemetry.samples import Inventory

log = structlog.get_logger("stowplan.agent")


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """As what this node joins. ``join_token`` is for the first time, or after it was removed."""

    node: str
    address: str
    labels: dict[str, str]
    device_labels: Callable[[Inventory], dict[str, str]]
    """Those that depend on what devices there are."""
    domains: dict[str, str]
    join_token: str | None


async def join(
    membership: Membership, inventory: Inventory, *, client: ServiceClient, spool: Spool
) -> Registered:
    """Register the node. Its own token is kept, and the client's from now on.

    Raises:
        UnreachableError: the service gave no answer.
        RefusedError: it doesn't want this node, or speaks another version.
    """
    form = Registration(
        version=VERSION,
        node=membership.node,
        address=membership.address,
        labels={**membership.labels, **membership.device_labels(inventory)},
        domains=membership.domains,
        inventory=inventory,
    )
    try:
        answer = await client.register(form)
    except RefusedError as error:
        own_token_is_void = error.status in {401, 404} and spool.token() is not None
        if not own_token_is_void or membership.join_token is None:
            raise
        log.warning("the node's own token is void; joining anew", reason=str(error))
        client.token = membership.join_token
        answer = await client.register(form)
    if answer.version != VERSION:
        raise RefusedError(
            426, f"the service speaks version {answer.version} and this agent {VERSION}"
        )
    if answer.token is not None:
        spool.keep_token(answer.token)
        client.token = answer.token
    return answer
