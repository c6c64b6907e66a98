"""What routes are given: the service's context, who is speaking, and a checked body."""

import ipaddress
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Path, Query, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from sqlalchemy import select

from app.auth import Credentials, digest
from app.clock import Clock
from app.db.engine import Database
from app.db.tables import JoinToken, Node
from app.durations.current import Durations
from app.errors import (
    Fault,
    ForbiddenError,
    InvalidInputError,
    MalformedJsonError,
    UnauthorizedError,
)
from app.heartbeats import Heartbeats, Pace
from app.ids import Ids
from app.progress import ProgressBoard
from app.quiet import QuietReports
from app.settings import Settings
from app.shares import SharesBoard
from app.signals import Seen, Signals


@dataclass(slots=True, kw_only=True)
class Context:
    """Everything that the service's parts share, built once by ``create_app``."""

    settings: Settings
    clock: Clock
    ids: Ids
    database: Database
    credentials: Credentials
    signals: Signals
    heartbeats: Heartbeats
    pace: Pace
    quiet: QuietReports
    revisions: Seen
    """Of the nodes' desired sets, as those who wait for news of them last saw them."""
    progress: ProgressBoard = field(default_factory=ProgressBoard)
    durations: Durations = field(default_factory=Durations)
    shares: SharesBoard = field(default_factory=SharesBoard)
    principals: "dict[str, NodePrincipal]" = field(default_factory=dict)
    """Nodes by their token's digest, as looked up before. Cleared when a node joins or goes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePrincipal:
    """An agent, known by its node's token: it may only speak for this node."""

    id: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinPermit:
    """A machine that may join."""

    token_id: str | None = None
    """The row of the token that is used up by it; None: the permanent one."""


async def context(request: Request) -> Context:
    # async: FastAPI gives each plain function a thread, which costs more than all the rest.
    return request.app.state.context


Ctx = Annotated[Context, Depends(context)]
_bearer = HTTPBearer(
    auto_error=False, description="The token in the file user.token of the service's home."
)
Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


async def require_user(ctx: Ctx, bearer: Bearer) -> None:
    if bearer is None or not bearer.credentials:
        raise UnauthorizedError(
            "this needs a token: send 'Authorization: Bearer TOKEN', with the one in user.token"
        )
    if ctx.credentials.is_user(bearer.credentials):
        return
    if await _node_of(ctx, bearer.credentials) or ctx.credentials.is_joiner(bearer.credentials):
        raise ForbiddenError("this is a node's token: users' routes need the user token")
    raise UnauthorizedError("the token isn't known here")


async def require_node(ctx: Ctx, bearer: Bearer) -> NodePrincipal:
    return await _node(ctx, bearer.credentials if bearer is not None else "")


async def speaking_node(request: Request) -> NodePrincipal:
    """:func:`require_node` without FastAPI's dependencies, for the two routes that every agent
    calls all the time: resolving these costs a third of the rest. Goes with ``NODE_SECURITY``."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    known = request.app.state.context
    return await _node(known, token.strip() if scheme.lower() == "bearer" else "")


NODE_SECURITY: dict[str, Any] = {"security": [{"HTTPBearer": []}]}


async def _node(ctx: Context, token: str) -> NodePrincipal:
    if not token:
        raise UnauthorizedError("an agent sends its node's token: 'Authorization: Bearer TOKEN'")
    node = await _node_of(ctx, token)
    if node is not None:
        return node
    if ctx.credentials.is_user(token) or ctx.credentials.is_joiner(token):
        raise ForbiddenError("agents' routes need a node's token, given when the node registers")
    raise UnauthorizedError(
        "the node's token isn't known here: was the node removed? Join it again"
    )


async def joiner_or_node(ctx: Ctx, bearer: Bearer) -> NodePrincipal | JoinPermit:
    """A machine that holds a join token, or a node that registers again."""
    if bearer is None or not bearer.credentials:
        raise UnauthorizedError("registering needs a join token, or the node's own token")
    if ctx.credentials.is_joiner(bearer.credentials):
        if not ctx.settings.reusable_join_token:
            raise UnauthorizedError(
                "the permanent join token is switched off here: ask for one with stowplan "
                "join-token create"
            )
        return JoinPermit()
    node = await _node_of(ctx, bearer.credentials)
    if node is None:
        async with ctx.database.read() as session:
            wanted = select(JoinToken.id).where(JoinToken.digest == digest(bearer.credentials))
            token_id = await session.scalar(wanted)
        if token_id is not None:
            return JoinPermit(token_id=token_id)
        if ctx.credentials.is_user(bearer.credentials):
            raise ForbiddenError("a node joins with the join token, not the user token")
        raise UnauthorizedError(
            "neither a join token nor a node's token: see the file join.token, or ask for one with "
            "stowplan join-token create"
        )
    return node


async def loopback_or_user(request: Request, ctx: Ctx, bearer: Bearer) -> None:
    """Probes on this machine need no token; from elsewhere they are a user's business."""
    host = request.client.host if request.client else ""
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if not local:
        await require_user(ctx, bearer)


async def _node_of(ctx: Context, token: str) -> NodePrincipal | None:
    known = ctx.principals.get(digest(token))
    if known is not None:
        return known
    async with ctx.database.read() as session:
        found = (
            await session.execute(
                select(Node.id, Node.name).where(Node.token_digest == digest(token))
            )
        ).first()
    if found is None:
        return None
    node = NodePrincipal(id=found.id, name=found.name)
    ctx.principals[digest(token)] = node
    return node


User = Depends(require_user)
Agent = Annotated[NodePrincipal, Depends(require_node)]
Joiner = Annotated[NodePrincipal | JoinPermit, Depends(joiner_or_node)]


Reference = Annotated[str, Path(min_length=1, max_length=128, pattern=r"^[^\x00]*$")]
"""An id or a name in a URL: what isn't known is a 404, what no database could look up is a 4xx
too."""

T = TypeVar("T")


class Paging(BaseModel):
    """Query of every list; unknown words are refused, as in bodies."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Query(ge=1, le=1000)] = 100
    cursor: Annotated[str | None, Query(max_length=256)] = None


def body(model: type[T]) -> Callable[[Request], Awaitable[T]]:
    """A dependency that reads the body as JSON of this form, in strict JSON mode: ``"2"`` is no
    integer.

    FastAPI's own body parameters parse to Python first, where strict mode would refuse lists for
    tuples and
    lax mode would accept strings for numbers; reading the bytes at once is also four times cheaper.
    """
    adapter = TypeAdapter(model)

    async def read(request: Request) -> T:
        data = await request.body()
        try:
            return adapter.validate_json(data)
        except ValidationError as error:
            raise invalid(error) from error

    return read


def documented(model: type[BaseModel]) -> dict[str, Any]:
    """The ``openapi_extra`` of a route that reads its body with :func:`body`."""
    return {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}
            },
        }
    }


def invalid(error: ValidationError) -> InvalidInputError | MalformedJsonError:
    """Every fault that pydantic found, as one error."""
    found = error.errors(include_url=False)
    if found and found[0]["type"] == "json_invalid":
        return MalformedJsonError(f"the body is no JSON: {found[0]['msg']}")
    faults = tuple(
        Fault(path=path(part["loc"]), value=part["input"], reason=part["msg"]) for part in found
    )
    return InvalidInputError(
        f"{len(faults)} fault(s) in the input; nothing was stored", faults=faults
    )


def path(location: tuple[int | str, ...]) -> str:
    """``("request", "gpus")`` -> ``request.gpus``; ``("argv", 0)`` -> ``argv[0]``; the whole is
    ``$``."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "$"
