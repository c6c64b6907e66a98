"""The server's JSON as tables: which columns each listing has, and what stands in them."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from client.output import Table
from client.progress_view import progress_line, progress_text
from client.quantities import cores_text, duration_text, memory_text, percent_text

Json = Mapping[str, Any]

_NAMED_REPLICAS_MAX = 4
"""A gang of more replicas than this is counted in a table, not spelled out."""


def device_name(device: Json) -> str:
    """``GPU 0``, or ``simulated GPU 0`` for one that is only an accounting unit."""
    index = device["index"] if device["index"] is not None else device["uuid"]
    return f"{'simulated ' if device['simulated'] else ''}GPU {index}"


def place(allocation: Json) -> str:
    """``node-a: GPU 0, GPU 1`` or ``node-a: CPU``."""
    return f"{allocation['node']}: {_device_names(allocation)}"


def _device_names(allocation: Json) -> str:
    return ", ".join(device_name(device) for device in allocation["devices"]) or "CPU"


def nodes_of(task: Json) -> str:
    """The nodes of a task's replicas, each once, in the order of ranks."""
    names = list(dict.fromkeys(allocation["node"] for allocation in task["allocations"]))
    if len(names) > _NAMED_REPLICAS_MAX:
        return f"{len(names)} nodes"
    return ", ".join(names) or "-"


def devices_of(task: Json) -> str:
    """The devices of a task's replicas; ``CPU`` for a task that holds none."""
    allocations = task["allocations"]
    if not allocations:
        return "-"
    devices = [device for allocation in allocations for device in allocation["devices"]]
    if not devices:
        return "CPU"
    if len(allocations) > _NAMED_REPLICAS_MAX:
        simulated = sum(device["simulated"] for device in devices)
        return f"{len(devices)} GPUs" + (f" ({simulated} simulated)" if simulated else "")
    return "; ".join(_device_names(allocation) for allocation in allocations)


def task_table(tasks: Iterable[Json], *, why: Mapping[str, str], wide: bool) -> Table:
    """What `ps` shows. ``why`` has, by id, the reasons of the tasks that wait."""
    tasks = list(tasks)
    # No column of dashes where no program tells how far it is.
    told = ("PROGRESS",) if any(map(progress_text, tasks)) else ()
    more = ("KIND", "PRIORITY", "REPLICAS", "ATTEMPT", "SUBMITTED", "PLAN") if wide else ()
    return Table(
        columns=(
            "ID",
            "NAME",
            "STATE",
            "QUEUE",
            "NODES",
            "DEVICES",
            "RUNTIME",
            *told,
            *more,
            "WHY",
        ),
        rows=tuple(
            (
                task["id"],
                task["name"],
                task["state"],
                task["queue"],
                nodes_of(task),
                devices_of(task),
                duration_text(task["running_seconds"]),
                *((progress_text(task) or "-",) if told else ()),
                *(_more_of_task(task) if wide else ()),
                why.get(task["id"]) or idle_text(task) or task["reason"],
            )
            for task in tasks
        ),
    )


def idle_text(task: Json) -> str:
    """That a task holds devices for nothing, and since when; empty when it doesn't."""
    return f"idle: {task['idle']['text']}" if task.get("idle") else ""


def _more_of_task(task: Json) -> tuple[str, ...]:
    return (
        task["kind"],
        str(task["priority"]),
        str(task["spec"]["replicas"]),
        str(task["generation"]),
        moment(task["submitted_at"]),
        task["plan"] or "-",
    )


def reasons_text(why: Json) -> str:
    """The reasons why a task waits, in one line."""
    return "; ".join(reason["text"] for reason in why["reasons"])


def node_table(nodes: Iterable[Json], *, wide: bool) -> Table:
    """What `nodes` shows: a row for each device, or one for a node without any."""
    more = ("ADDRESS", "CPU IN USE", "MEMORY IN USE", "LABELS", "DOMAINS", "SEEN") if wide else ()
    return Table(
        columns=("NODE", "STATE", "DEVICE", "MODEL", "MEMORY", "IN USE", *more, "HELD BY"),
        rows=tuple(row for node in nodes for row in _node_rows(node, wide=wide)),
    )


def _node_rows(node: Json, *, wide: bool) -> list[tuple[str, ...]]:
    more = _more_of_node(node) if wide else ()
    if not node["devices"]:
        note = _and_away(node["device_message"] or "", node)
        return [(node["name"], node_state(node), "none", "-", "-", "-", *more, note)]
    held = [
        holders(device) if device["healthy"] else f"unhealthy: {device['fault'] or 'unknown'}"
        for device in node["devices"]
    ]
    held[0] = _and_away(held[0], node)
    return [
        (
            node["name"],
            node_state(node),
            device_name(device),
            device["model"],
            memory_text(device["memory_mib"]),
            percent_text(sum(use["gpu_milli"] for use in device["used_by"]) / 10),
            *more,
            note,
        )
        for device, note in zip(node["devices"], held, strict=True)
    ]


def _and_away(text: str, node: Json) -> str:
    away = away_text(node)
    return f"{text} [{away}]".strip() if away else text


def _more_of_node(node: Json) -> tuple[str, ...]:
    allocated = node["allocated"]
    return (
        node["address"],
        f"{cores_text(allocated['cpu_milli'])}/{cores_text(node['cpu_milli'])}",
        f"{memory_text(allocated['memory_mib'])}/{memory_text(node['memory_mib'])}",
        _pairs(node["labels"]),
        _pairs(node["domains"]),
        moment(node["last_seen_at"]),
    )


def node_state(node: Json) -> str:
    """``ready``, or ``ready,cordoned`` for a node that takes nothing new, and why in one word where
    that's a drain or maintenance.
    """
    if node["schedulable"] and not node.get("maintenance_since"):
        return node["state"]
    if node.get("maintenance_since"):
        return f"{node['state']},maintenance"
    return f"{node['state']},{'draining' if node.get('drain_until') else 'cordoned'}"


def away_text(node: Json) -> str:
    """Why a node takes nothing new, since or until when, and what leaves it; empty when it takes
    tasks.
    """
    if node["schedulable"] and not node.get("maintenance_since"):
        return ""
    parts = [node["drain_reason"]] if node["drain_reason"] else []
    if node["maintenance_since"]:
        parts.append(f"in maintenance since {moment(node['maintenance_since'])}")
    if node["drain_until"]:
        left = node["leaving"]
        counted = f"{left} task{'' if left == 1 else 's'}"
        parts.append(f"{counted} to leave by {moment(node['drain_until'])}")
    return "; ".join(parts)


def join_token_table(tokens: Iterable[Json]) -> Table:
    """What `join-token list` shows."""
    return Table(
        columns=("ID", "STATE", "USES LEFT", "MADE", "EXPIRES", "LAST NODE"),
        rows=tuple(
            (
                token["id"],
                "usable" if token["usable"] else "used up" if not token["uses_left"] else "expired",
                str(token["uses_left"]),
                moment(token["created_at"]),
                moment(token["expires_at"]),
                token["last_node"] or "-",
            )
            for token in tokens
        ),
    )


def holders(device: Json) -> str:
    """The tasks that hold a share of a device."""
    return ", ".join(
        use["name"] if use["gpu_milli"] == 1000 else f"{use['name']} ({use['gpu_milli'] / 10:g}%)"
        for use in device["used_by"]
    )


def plan_table(plans: Iterable[Json], *, wide: bool) -> Table:
    """What `plans` shows."""
    return Table(
        columns=("ID", "AT", "TRIGGER", "STATUS", "WAITING", "PLACED", "REJECTED", "SECONDS")
        + (("DIGEST",) if wide else ()),
        rows=tuple(
            (
                plan["id"],
                moment(plan["created_at"]),
                plan["trigger"],
                plan["status"],
                str(plan["pending"]),
                str(plan["placed"]),
                str(plan["rejected"]),
                f"{plan['seconds']:.3f}",
                *((plan["digest"],) if wide else ()),
            )
            for plan in plans
        ),
    )


def plan_lines(plan: Json) -> list[str]:
    """One round of planning, for a person."""
    answer = plan["plan"]
    lines = [
        f"plan {plan['id']} of {moment(plan['created_at'])}: {plan['status']}, "
        f"asked for by {plan['trigger']}, {plan['seconds']:.3f} s",
        f"digest {plan['digest']}",
    ]
    for term in answer["objective"]:
        level = "" if term.get("level") is None else _level(term["level"])
        lines.append(
            f"objective {term['name']}{level}: {term['value']:g}, "
            f"bound {term['bound']:g}, gap {term['gap']:.2%}"
        )
    for placement in answer["placements"]:
        where = "; ".join(
            f"{replica['node']}"
            + (f" [{', '.join(replica['devices'])}]" if replica["devices"] else "")
            for replica in placement["replicas"]
        )
        lines.append(f"runs {placement['task']}: {where}")
    lines += [f"moved {task}" for task in answer["moved"]]
    lines += [f"evicted {task}" for task in answer["evicted"]]
    steps = answer.get("steps", ())  # plans of older versions have none
    if any(step["kind"] == "stop" for step in steps):  # else everything starts at once
        lines += [
            f"step {step['wave']}: {step['kind']} {step['task']} on "
            + ", ".join(sorted({replica["node"] for replica in step["replicas"]}))
            for step in steps
        ]
    for unplaced in answer["unplaced"]:
        reasons = "; ".join(reason["text"] for reason in unplaced["reasons"])
        lines.append(f"waits {unplaced['task']}: {reasons}")
        lines += map(_fix_line, unplaced["fixes"])
    return lines


def _level(level: int) -> str:
    """Where several queues have tasks, or room is held, a level is more than a priority."""
    from protocol.task import PRIORITY_MAX  # here: --help needn't wait for what it loads

    return f" ({'priority' if abs(level) <= PRIORITY_MAX else 'level'} {level})"


def _fix_line(fix: Json) -> str:
    """What would help and what it costs; 1 milli, for a replica without GPU, isn't worth a word."""
    said = f"  fix {fix['kind']}: {fix['text']}"
    cost = fix.get("cost")  # plans of older versions have none
    if cost is None or cost < 10:
        return said
    return f"{said} (costs {cost / 1000:g} GPU{'s' * (cost > 1000)})"


def event_line(event: Json) -> str:
    """One event on one line."""
    of = " ".join(part for part in (event["task"], event["node"]) if part)
    return f"{moment(event['at'])}  {event['kind']:<17}  {of}  {event['message']}"


def why_lines(why: Json) -> list[str]:
    """The answer to `why`: one paragraph, then every reason and every fix."""
    lines = [why["text"]]
    for reason in why["reasons"]:
        count = reason["nodes"]
        told = not count or f"{count} of " in reason["text"]
        nodes = "" if told else f" ({count} node{'' if count == 1 else 's'})"
        lines.append(f"  reason {reason['code']}: {reason['text']}{nodes}")
    lines += map(_fix_line, why["fixes"])
    if why["plan"] is not None:
        plan = why["plan"]
        lines.append(f"  plan {plan['id']} ({plan['status']}) of {moment(plan['created_at'])}")
    return lines


def task_lines(task: Json) -> list[str]:
    """Everything about a task, for a person."""
    spec = task["spec"]
    request = spec["request"]
    asked = ", ".join(
        f"{name} {value}"
        for name, value in request.items()
        if value and (request["gpus"] or not name.startswith("gpu"))
    )
    lines = [
        f"id:         {task['id']}",
        f"name:       {task['name']}",
        f"state:      {task['state']}" + (f" ({task['reason']})" if task["reason"] else ""),
        f"kind:       {task['kind']}, queue {task['queue']}, priority {task['priority']}",
        f"program:    {_command_line(spec['argv'])}",
        f"directory:  {spec['working_dir'] or '-'}",
        f"replicas:   {spec['replicas']} (at least {spec['min_replicas'] or spec['replicas']})",
        f"each needs: {asked or 'nothing in particular'}",
        f"attempt:    {task['generation']}, failed {task['failures']} times, "
        f"restarts allowed {_restarts(spec)}" + _made_way(task),
        f"submitted:  {moment(task['submitted_at'])}",
        f"started:    {moment(task['started_at'])}",
        f"finished:   {moment(task['finished_at'])}",
        f"plan:       {task['plan'] or '-'}",
    ]
    if task.get("not_before") and task["state"] == "pending":
        lines.append(f"not before: {moment(task['not_before'])}")
    if task.get("reserved"):
        kept = "; ".join(" ".join((slot["node"], *slot["devices"])) for slot in task["reserved"])
        lines.append(f"room kept:  {kept}")
    if task.get("progress"):
        lines.append(f"progress:   {progress_line(task)}")
    if task.get("idle"):
        lines.append(f"idle:       {task['idle']['text']}")
    lines += [
        f"replica {allocation['replica']}:  {_replica_text(allocation)}"
        for allocation in task["allocations"]
    ]
    if task.get("error"):
        lines += ["its first failure:", *(f"  {line}" for line in task["error"].splitlines())]
    return lines


def _made_way(task: Json) -> str:
    """How often others came first; empty for most."""
    times = task.get("preemptions", 0)
    return f", made way for others {times} times" if times else ""


def _replica_text(allocation: Json) -> str:
    parts = [place(allocation), allocation["state"]]
    for name, label in (("pid", "pid"), ("endpoint", "at"), ("exit_code", "exit code")):
        if allocation[name] is not None:
            parts.append(f"{label} {allocation[name]}")
    if allocation["exit_signal"] is not None:
        parts.append(f"signal {allocation['exit_signal']}")
    if allocation.get("stop_cause"):
        parts.append(f"stopped: {allocation['stop_cause']}")
    if allocation.get("checkpoint"):
        parts.append(f"checkpoint {allocation['checkpoint']}")
    if allocation["reason"]:
        parts.append(allocation["reason"])
    return ", ".join(parts)


def moment(text: str | None) -> str:
    """A time of the server's in this machine's zone, to the second."""
    if text is None:
        return "-"
    return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _pairs(values: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(values.items())) or "-"


def _restarts(spec: Json) -> str:
    if spec["max_restarts"] is not None:
        return str(spec["max_restarts"])
    return "without limit" if spec["kind"] == "service" else "0"


def _command_line(argv: Sequence[str]) -> str:
    return shlex.join(argv)
