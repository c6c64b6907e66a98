"""Tokens with which machines join."""

from collections.abc import Iterator
from typing import Any

from client.transport import Transport, part_of_path

_PATH = "/api/v1/join-tokens"
_PAGE = 500


class JoinTokens:
    """Those that are used up. The permanent one is in the file ``join.token`` of the service."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, *, uses: int = 1, hours: float = 24.0) -> dict[str, Any]:
        """A new one; its words are in this answer only."""
        return self._transport.call("POST", _PATH, body={"uses": uses, "hours": hours})

    def all(self) -> Iterator[dict[str, Any]]:
        """Newest first, without their words."""
        cursor = None
        while True:
            answer = self._transport.call("GET", _PATH, params={"limit": _PAGE, "cursor": cursor})
            yield from answer["items"]
            cursor = answer["next_cursor"]
            if cursor is None:
                return

    def revoke(self, token: str) -> None:
        """Void one, by its id. Nodes that have joined with it stay."""
        self._transport.call("DELETE", f"{_PATH}/{part_of_path(token)}")
