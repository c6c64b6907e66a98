"""Opaque cursors: a page ends at a key, the next begins behind it, whatever was added meanwhile."""

import base64
import binascii

from app.errors import Fault, InvalidInputError


def encode_cursor(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


def decode_cursor(cursor: str | None) -> str | None:
    """The key in a cursor that we gave; a 4xx for one that we didn't."""
    if cursor is None:
        return None
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        key = base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except (UnicodeError, binascii.Error):
        key = ""
    if not key or "\x00" in key:
        raise InvalidInputError(
            "the cursor isn't one that this service gave",
            faults=(
                Fault(
                    path="cursor",
                    value=cursor,
                    reason="take it from next_cursor of the page before",
                ),
            ),
        )
    return key
