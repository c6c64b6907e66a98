"""From the options of `stowplan submit` to a task's JSON, with every fault named at once."""

import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from client import quantities
from client.errors import Fault, InvalidInputError, StowplanError, faults_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What was given on the command line, as it was written; None or empty is "not given"."""

    argv: tuple[str, ...] = ()
    file: str | None = None
    name: str | None = None
    service: bool = False
    gpus: int | None = None
    gpu_milli: int | None = None
    gpu_memory: str | None = None
    gpu_memory_mib: int | None = None
    cpus: str | None = None
    cpu_milli: int | None = None
    memory: str | None = None
    memory_mib: int | None = None
    replicas: int | None = None
    min_replicas: int | None = None
    queue: str | None = None
    priority: int | None = None
    models: tuple[str, ...] = ()
    select: tuple[str, ...] = ()
    pack_within: str | None = None
    spread_over: str | None = None
    separate_from: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    working_dir: str | None = None
    duration: str | None = None
    grace: str | None = None
    max_restarts: int | None = None
    restart_delay: str | None = None
    checkpoint: str | None = None
    on_lease_lost: str | None = None
    ready_path: str | None = None
    health_path: str | None = None
    drain: str | None = None
    pids_max: int | None = None
    gpu_overuse: str | None = None
    enforce: tuple[str, ...] = ()
    comment: str | None = None


def build(options: Options, *, current_dir: str) -> dict[str, Any]:
    """The task as JSON for ``POST /api/v1/tasks``: the file's words, and the options above them.

    Raises:
        InvalidInputError: with every fault of the file and of the options.
    """
    spec = read_file(options.file) if options.file is not None else {}
    faults = _Faults()
    _apply(spec, options, faults)
    spec.setdefault("working_dir", current_dir)
    faults.found += form_faults(spec)
    if faults.found:
        raise InvalidInputError(
            f"{len(faults.found)} fault(s) in the task; nothing was submitted", faults=faults.found
        )
    return spec


def read_file(path: str, what: str = "task") -> dict[str, Any]:
    """A task (or ``what`` else) from a JSON or YAML file; ``-`` is standard input.

    Raises:
        InvalidInputError: it can't be read or parsed, or holds no mapping.
    """
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text()
    except (OSError, UnicodeError) as error:
        raise InvalidInputError(f"can't read the {what} from {path}: {error}") from error
    content = _parse(text, path)
    if not isinstance(content, dict):
        raise InvalidInputError(f"{path} holds no {what}: a mapping of fields is wanted")
    return content


def _parse(text: str, path: str) -> Any:
    import yaml

    try:
        return json.loads(text) if path.endswith(".json") else yaml.safe_load(text)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        kind = "JSON" if path.endswith(".json") else "YAML"
        where = " ".join(str(error).split())
        raise InvalidInputError(f"{path} is no {kind}: {where}") from error


def form_faults(spec: dict[str, Any]) -> tuple[Fault, ...]:
    """What is wrong with the task by its form; the service knows the same rules, and some more."""
    from pydantic import ValidationError

    from protocol.task import TaskSpec

    try:
        # Through JSON, because that is how it travels: a YAML date, say, is no form's value.
        TaskSpec.model_validate_json(json.dumps(spec, default=str))
    except ValidationError as error:
        return faults_of(error)
    except (ValueError, TypeError, RecursionError) as error:
        raise StowplanError(f"the task can't be written as JSON: {error}") from error
    return ()


@dataclass(slots=True)
class _Faults:
    """Reads options one by one and remembers what was wrong with each."""

    found: list[Fault] = field(default_factory=list)

    def read(self, option: str, text: str | None, parse: Callable[[str], Any]) -> Any:
        if text is None:
            return None
        try:
            return parse(text)
        except ValueError as error:
            self.found.append(Fault(path=option, value=text, reason=str(error)))
            return None

    def one_of(self, first: tuple[str, Any], second: tuple[str, Any]) -> Any:
        """The one that was given, where two options say the same thing in different units."""
        (name, value), (other_name, other_value) = first, second
        if value is not None and other_value is not None:
            self.found.append(
                Fault(path=other_name, value=other_value, reason=f"{name} says it already")
            )
        return value if value is not None else other_value


def _apply(spec: dict[str, Any], options: Options, faults: _Faults) -> None:
    given: dict[str, Any] = {
        "argv": list(options.argv) or None,
        "name": options.name,
        "kind": "service" if options.service else None,
        "replicas": options.replicas,
        "min_replicas": options.min_replicas,
        "queue": options.queue,
        "priority": options.priority,
        "gpu_models": list(options.models) or None,
        "pack_within": options.pack_within,
        "spread_over": options.spread_over,
        "separate_from": list(options.separate_from) or None,
        "working_dir": options.working_dir,
        "duration_seconds": faults.read("--duration", options.duration, quantities.seconds),
        "grace_seconds": faults.read("--grace", options.grace, quantities.seconds),
        "max_restarts": options.max_restarts,
        "restart_delay_seconds": faults.read(
            "--restart-delay", options.restart_delay, quantities.seconds
        ),
        "on_lease_lost": options.on_lease_lost,
        "drain_seconds": faults.read("--drain", options.drain, quantities.seconds),
        "pids_max": options.pids_max,
        "gpu_overuse": options.gpu_overuse,
        "enforce": list(options.enforce) or None,
        "comment": options.comment,
    }
    spec.update({name: value for name, value in given.items() if value is not None})
    _merge(spec, "request", _request(options, faults))
    for name, field_name, value in (
        ("checkpoint", "ask", options.checkpoint),
        ("readiness", "path", options.ready_path),
        ("health", "path", options.health_path),
    ):
        _merge(spec, name, {} if value is None else {field_name: value})
    _merge(spec, "env", _pairs("--env", options.env, quantities.assignment, faults))
    selectors = _pairs("--select", options.select, quantities.selector, faults)
    _merge(spec, "node_selector", {label: list(values) for label, values in selectors.items()})


def _request(options: Options, faults: _Faults) -> dict[str, Any]:
    cpus = faults.read("--cpus", options.cpus, quantities.cpu_milli)
    memory = faults.read("--memory", options.memory, quantities.memory_mib)
    gpu_memory = faults.read("--gpu-memory", options.gpu_memory, quantities.memory_mib)
    given = {
        "gpus": options.gpus,
        "gpu_milli": options.gpu_milli,
        "gpu_memory_mib": faults.one_of(
            ("--gpu-memory", gpu_memory), ("--gpu-memory-mib", options.gpu_memory_mib)
        ),
        "cpu_milli": faults.one_of(("--cpus", cpus), ("--cpu-milli", options.cpu_milli)),
        "memory_mib": faults.one_of(("--memory", memory), ("--memory-mib", options.memory_mib)),
    }
    return {name: value for name, value in given.items() if value is not None}


def _pairs(
    option: str,
    texts: Iterable[str],
    parse: Callable[[str], tuple[str, Any]],
    faults: _Faults,
) -> dict[str, Any]:
    pairs = (faults.read(option, text, parse) for text in texts)
    return dict(pair for pair in pairs if pair is not None)


def _merge(spec: dict[str, Any], name: str, values: dict[str, Any]) -> None:
    """Lay options over a mapping of the file. What is no mapping stays, for the form to refuse."""
    there = {} if spec.get(name) is None else spec[name]
    if values and isinstance(there, dict):
        spec[name] = there | values
