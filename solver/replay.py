"""A problem's canonical bytes and the digest that names them: the same question, the same bytes."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache, partial
from typing import Any

from solver.problem import Problem


def canonical_bytes(problem: Problem) -> bytes:
    """JSON in UTF-8 with every field written out, keys sorted and no spaces."""
    return json_bytes(problem)


def digest(problem: Problem) -> str:
    """``sha256:`` and the digest of the canonical bytes.

    >>> from solver import Node, Problem, digest
    >>> one = Problem(version=1, nodes=(Node(id="n1"),), tasks=())
    >>> two = Problem(version=1, nodes=(Node(id="n1", cpu_milli=0),), tasks=(), queues=())
    >>> digest(one) == digest(two)  # what is left out and what is written out are the same question
    True
    >>> digest(one)[:20]
    'sha256:d5eb8e27bf3a3'
    """
    return "sha256:" + hashlib.sha256(canonical_bytes(problem)).hexdigest()


def as_document(value: Any, *, leave_out_none: bool = False) -> dict[str, Any]:
    """One of our dataclasses, or a mapping, as a dict. What it holds stays as it is: this is what
    ``json`` asks of its ``default``.
    """
    if isinstance(value, Mapping):
        return dict(value)
    if not is_dataclass(value):
        raise TypeError(f"{type(value).__name__} has no form in JSON")
    pairs = ((name, getattr(value, name)) for name in _names(type(value)))
    return {name: item for name, item in pairs if not (leave_out_none and item is None)}


def json_text(value: Any, *, leave_out_none: bool = False, **options: Any) -> str:
    """JSON of a tree of our dataclasses. Raises ``ValueError`` for NaN and infinity, which JSON
    doesn't have.
    """
    default = partial(as_document, leave_out_none=leave_out_none)
    return json.dumps(value, default=default, ensure_ascii=False, allow_nan=False, **options)


def json_bytes(document: object) -> bytes:
    """Canonical JSON."""
    return json_text(document, sort_keys=True, separators=(",", ":")).encode()


@cache
def _names(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))
