"""A problem's canonical bytes and the digest that names them: the same question, the same bytes."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from solver.problem import Problem


def canonical_bytes(problem: Problem) -> bytes:
    """JSON in UTF-8 with every field written out, keys sorted and no spaces."""
    return json_bytes(as_document(problem))


def digest(problem: Problem) -> str:
    """``sha256:`` and the digest of the canonical bytes."""
    return "sha256:" + hashlib.sha256(canonical_bytes(problem)).hexdigest()


def as_document(value: Any, *, leave_out_none: bool = False) -> Any:
    """A tree of our dataclasses as plain dicts and lists, ready for JSON."""
    if is_dataclass(value):
        pairs = ((field.name, getattr(value, field.name)) for field in fields(value))
        return {
            name: as_document(item, leave_out_none=leave_out_none)
            for name, item in pairs
            if not (leave_out_none and item is None)
        }
    if isinstance(value, Mapping):
        return {k: as_document(item, leave_out_none=leave_out_none) for k, item in value.items()}
    if isinstance(value, tuple | list):
        return [as_document(item, leave_out_none=leave_out_none) for item in value]
    return value


def json_bytes(document: object) -> bytes:
    """Canonical JSON. Raises ``ValueError`` for NaN and infinity, which JSON doesn't have."""
    text = json.dumps(
        document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode()
