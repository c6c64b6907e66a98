"""The OpenAPI document: FastAPI's own, plus the forms of bodies that we read ourselves."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from app.nodes.schemas import DrainForm, JoinTokenForm, MaintenanceForm, NodePatch
from app.planning.documents import forms, schema
from app.planning.eta_schemas import Simulation
from app.problems import MEDIA_TYPE, PROBLEM_SCHEMA
from app.quarantine.schemas import QuarantineForm
from app.queues.schemas import BookingForm, QueueForm, QueuePatch
from protocol.node import Registration
from protocol.report import LogChunk, Report
from protocol.samples import SampleReport
from protocol.task import TaskSpec

_BODIES: tuple[type[BaseModel], ...] = (
    TaskSpec,
    NodePatch,
    DrainForm,
    MaintenanceForm,
    JoinTokenForm,
    QuarantineForm,
    QueueForm,
    QueuePatch,
    BookingForm,
    Simulation,
    Registration,
    Report,
    SampleReport,
    LogChunk,
)
_REF = "#/components/schemas/{model}"
_DESCRIPTION = (
    "Decides which training and inference task runs on which GPU of which node, and says why. "
    "Errors are application/problem+json."
)


def install(app: FastAPI) -> None:
    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = openapi  # pyright: ignore[reportAttributeAccessIssue] - FastAPI's documented way


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title, version=app.version, description=_DESCRIPTION, routes=app.routes
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for model in _BODIES:
        _add(schemas, model.__name__, model.model_json_schema(ref_template=_REF))
    for name in forms():
        title = name.capitalize()
        _add(schemas, title, _with_refs(schema(name), title))
    schemas["ProblemDetails"] = PROBLEM_SCHEMA
    for operations in document["paths"].values():
        for operation in operations.values():
            _describe_errors(operation)
    return document


def _add(schemas: dict[str, Any], name: str, form: dict[str, Any]) -> None:
    for definition, content in form.pop("$defs", {}).items():
        schemas.setdefault(definition, content)
    schemas[name] = form


def _with_refs(form: Any, owner: str) -> Any:
    """The solver's schemas name their parts ``Node``, ``Task``...: keep those apart from the API's
    own."""
    if isinstance(form, dict):
        moved = {key: _with_refs(value, owner) for key, value in form.items() if key != "$defs"}
        if "$ref" in moved:
            moved["$ref"] = f"#/components/schemas/{owner}{moved['$ref'].rsplit('/', 1)[-1]}"
        if "$defs" in form:
            moved["$defs"] = {
                f"{owner}{name}": _with_refs(part, owner) for name, part in form["$defs"].items()
            }
        return moved
    if isinstance(form, list):
        return [_with_refs(part, owner) for part in form]
    return form


def _describe_errors(operation: dict[str, Any]) -> None:
    answer = {
        "description": "What went wrong, and what to do.",
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}},
    }
    operation["responses"].pop("422", None)
    operation["responses"]["4XX"] = answer
