"""The border of the solver: JSON bytes in, dataclasses out, and back.

Nothing here imports fastapi or the database: ``stowplan solve`` starts with it. A form's module is
imported when the form is asked for.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pkgutil import resolve_name
from typing import Any, Never

from pydantic import TypeAdapter, ValidationError

from solver.errors import Fault, InvalidPlan, InvalidProblem, shorten
from solver.plan import Plan
from solver.problem import Problem
from solver.replay import json_text

FAULTS_SHOWN = 1000
"""More faults than this help nobody; the last line then says how many were left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A document that programs send us or get from us: a tree of dataclasses."""

    type: str
    """``module:class``. Where it comes in, its construction raises InvalidProblem."""
    meaning: str | None = None
    """``module:function`` that finds faults of meaning in a bare document, so that they are told
    beside those of its shape."""
    goes_out: bool = False


_CHOICES = ("tuple[", "Triplets")
"""How pydantic calls the forms of a matrix (``solver.allocation.program``)."""

_FORMS = {
    "problem": Form(type="solver.problem:Problem", meaning="solver.validity:semantic_faults"),
    "plan": Form(type="solver.plan:Plan", goes_out=True),
    "jobs": Form(
        type="solver.allocation.jobs:Jobs", meaning="solver.allocation.jobs:semantic_faults"
    ),
    "allocation": Form(type="solver.allocation.allocation:Allocation", goes_out=True),
    "program": Form(
        type="solver.allocation.program:Program",
        meaning="solver.allocation.program:semantic_faults",
    ),
    "project": Form(
        type="solver.scheduling.projects.project:Project",
        meaning="solver.scheduling.projects.faults:semantic_faults",
    ),
    "schedule": Form(type="solver.scheduling.projects.schedule:Schedule", goes_out=True),
    "timequestion": Form(type="solver.scheduling.timeplan.question:TimeQuestion"),
    "timeplan": Form(type="solver.scheduling.timeplan.outcome:TimePlan", goes_out=True),
    "solution": Form(type="solver.allocation.program:Solution", goes_out=True),
}


class _UnreadableJsonError(Exception):
    """The bytes are no JSON document that two readers would agree on."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__("; ".join(map(str, faults)))
        self.faults = faults


class _RepeatedKeys(dict[str, Any]):
    """A JSON object in which a key came twice: readers differ on which one counts."""

    keys_repeated: tuple[str, ...] = ()


def parse_problem(data: bytes) -> Problem:
    """The placement problem in these bytes. Raises as :func:`parse` does."""
    return parse("problem", data)


def parse_program(data: bytes) -> Any:
    """The program (``solver.allocation.program``) in these bytes. Raises as :func:`parse` does."""
    return parse("program", data)


def parse(form: str, data: bytes) -> Any:
    """The document of this form in these bytes. Raises :class:`InvalidProblem` with every fault of
    shape and meaning.
    """
    try:
        document = _read_json(data)
    except _UnreadableJsonError as error:
        raise InvalidProblem(error.faults) from None
    try:
        return _adapter(form).validate_json(data)
    except InvalidProblem as error:
        raise InvalidProblem(_limited(error.faults)) from None
    except ValidationError as error:
        shape = _shape_faults(error)
        told = {fault.path for fault in shape}
        find = _FORMS[form].meaning
        found = resolve_name(find)(document) if find else ()
        meaning = (fault for fault in found if fault.path not in told)
        raise InvalidProblem(_limited((*shape, *meaning))) from None


def parse_plan(data: bytes) -> Plan:
    """The plan in these bytes. Raises :class:`InvalidPlan` with every fault of its shape.

    Whether it is a good plan, or even a possible one, is for :mod:`solver.check` to say.
    """
    try:
        _read_json(data)
        return _adapter("plan").validate_json(data)
    except _UnreadableJsonError as error:
        raise InvalidPlan(error.faults) from None
    except ValidationError as error:
        raise InvalidPlan(_limited(_shape_faults(error))) from None


def answer_bytes(answer: object) -> bytes:
    """An answer as JSON in the contract's order of fields, without those that say nothing
    (None)."""
    return json_text(answer, leave_out_none=True).encode() + b"\n"


def forms() -> tuple[str, ...]:
    """The names that :func:`schema` knows."""
    return tuple(_FORMS)


def schema(name: str) -> dict[str, Any]:
    """The JSON Schema of a form. Raises ``KeyError`` for a name that isn't among :func:`forms`."""
    if name not in _FORMS:
        raise KeyError(name)
    mode = "serialization" if _FORMS[name].goes_out else "validation"
    return _adapter(name).json_schema(mode=mode)


@cache
def _adapter(name: str) -> TypeAdapter[Any]:
    return TypeAdapter(resolve_name(_FORMS[name].type))


def _read_json(data: bytes) -> Any:
    """The bare document, read only to find what pydantic reads in silence: NaN, repeated keys,
    depth.
    """
    repeated: list[_RepeatedKeys] = []

    def keep(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) == len(pairs):
            return found
        odd = _RepeatedKeys(found)
        seen: set[str] = set()
        odd.keys_repeated = tuple(k for k, _ in pairs if k in seen or seen.add(k))
        repeated.append(odd)
        return odd

    try:
        text = data.decode("utf-8")
        document = json.loads(text, object_pairs_hook=keep, parse_constant=_refuse_constant)
    except _UnreadableJsonError:
        raise
    except UnicodeDecodeError as error:
        raise _unreadable(f"byte {error.start}", "is not UTF-8", data) from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise _unreadable(where, f"is no JSON: {error.msg}", data) from None
    except RecursionError:
        raise _unreadable("", "is nested too deeply", data) from None
    except ValueError:  # int() refuses more than 4,300 digits
        raise _unreadable("", "holds an integer of thousands of digits", data) from None
    if repeated:
        raise _UnreadableJsonError(_limited(tuple(_repeated_faults(document, ""))))
    return document


def _refuse_constant(name: str) -> Never:
    fault = Fault(path="", value=name, reason="holds a number that JSON doesn't have")
    raise _UnreadableJsonError((fault,))


def _unreadable(path: str, reason: str, data: bytes) -> _UnreadableJsonError:
    return _UnreadableJsonError((Fault(path=path, value=shorten(data), reason=reason),))


def _repeated_faults(value: Any, path: str) -> Iterator[Fault]:
    if isinstance(value, _RepeatedKeys):
        for key in value.keys_repeated:
            where = f"{path}.{key}" if path else key
            yield Fault(path=where, value=shorten(value[key]), reason="is given more than once")
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _repeated_faults(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _repeated_faults(item, f"{path}[{i}]")


def _shape_faults(error: ValidationError) -> tuple[Fault, ...]:
    details = error.errors(include_url=False, include_context=False)
    within = {_path(d["loc"][:-1]) for d in details if not _is_choice(d["loc"][-1:])}
    return tuple(
        Fault(
            path=_path(detail["loc"]),
            value="nothing" if detail["type"] == "missing" else shorten(detail["input"]),
            reason=_reason(detail["type"], detail["msg"]),
        )
        for detail in details
        # Of two forms that a field may have, one was tried in vain where the other got further.
        if not (_is_choice(detail["loc"][-1:]) and _is_prefix(_path(detail["loc"]), within))
    )


def _is_choice(steps: tuple[int | str, ...]) -> bool:
    """Whether pydantic names there which of a field's forms it tried: no step of the document."""
    return any(isinstance(step, str) and step.startswith(_CHOICES) for step in steps)


def _is_prefix(path: str, paths: set[str]) -> bool:
    return any(other == path or other.startswith((f"{path}.", f"{path}[")) for other in paths)


def _reason(kind: str, message: str) -> str:
    match kind:
        case "missing":
            return "is required"
        case "unexpected_keyword_argument" | "extra_forbidden":
            return "is no field of this form"
        case "json_invalid":
            return "is no JSON"
        case _:
            return message[:1].lower() + message[1:]


def _path(location: tuple[int | str, ...]) -> str:
    path = ""
    for step in location:
        if _is_choice((step,)):
            continue
        if isinstance(step, int):
            path += f"[{step}]"
        else:
            path += f".{step}" if path else step
    return path


def _limited(faults: tuple[Fault, ...]) -> tuple[Fault, ...]:
    if len(faults) <= FAULTS_SHOWN:
        return faults
    rest = len(faults) - FAULTS_SHOWN
    more = Fault(path="", value=f"{rest} more", reason="has more faults than are listed")
    return (*faults[:FAULTS_SHOWN], more)
