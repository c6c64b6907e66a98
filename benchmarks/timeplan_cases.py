"""The time plan: how fast it is, and whether what it says comes true.

Times are the processor's seconds of one process, all draws included.
"""

import statistics
import time
from collections.abc import Iterator

import numpy as np

from benchmarks.harness import Case
from benchmarks.timeplan_history import history
from solver.problem import Device, Node, Problem, Request, Slot, Task
from solver.scheduling.timeplan import FRACTIONS, TimeQuestion
from solver.scheduling.timeplan.planning import time_plan

REPEATS = 5
SEEDS = (1, 2, 3)
_NORMAL_QUANTILES = (-1.645, -1.036, -0.674, -0.385, -0.126, 0.126, 0.385, 0.674, 1.036, 1.645)


def cases() -> Iterator[Case]:
    """A large question, then the two-week histories."""
    asked = large_question()
    time_plan(asked)  # loads what is compiled
    seconds = statistics.median(_seconds(asked) for _ in range(REPEATS))
    yield Case(
        case=f"time plan: {len(asked.running)} running, {len(asked.waiting)} waiting",
        value=seconds,
        unit="s",
        better="lower",
        must=2.0,
        aim=0.5,
        note=f"{asked.draws} draws and the central one, {len(asked.problem.nodes)} nodes of 8 GPUs",
    )
    for seed in SEEDS:
        verdict = history(seed=seed, load=0.75)
        miss = abs(verdict.p90_ratio - 0.9)
        yield Case(
            case=f"two weeks {seed}: distance of the ETA's p90 coverage from 0.9",
            value=miss,
            unit="ratio",
            better="lower",
            must=0.05,
            aim=0.02,
            note=(
                f"{verdict.waits} waits; p90 covers {verdict.p90_ratio:.3f}, p50 "
                f"{verdict.p50_ratio:.3f}; the draws alone {verdict.drawn_ratio:.3f}"
            ),
        )


def _seconds(asked: TimeQuestion) -> float:
    begin = time.process_time()
    time_plan(asked)
    return time.process_time() - begin


def large_question(
    *, nodes: int = 250, running: int = 1000, waiting: int = 1000, seed: int = 0
) -> TimeQuestion:
    """A cluster that is nearly full; singles, shares and gangs wait, some within a rack."""
    rng = np.random.default_rng(seed)
    cluster = tuple(
        Node(
            id=f"n{n}",
            cpu_milli=96_000,
            memory_mib=1 << 20,
            domains={"rack": f"r{n // 16}"},
            devices=tuple(
                Device(id=f"g{g}", model=("H100", "A100")[n % 3 == 0], memory_mib=81_920)
                for g in range(8)
            ),
        )
        for n in range(nodes)
    )
    tasks = (*_running(rng, cluster, running), *(_waiting(rng, i) for i in range(waiting)))
    return TimeQuestion(
        problem=Problem(version=1, nodes=cluster, tasks=tasks),
        forecasts={task.id: _forecast(rng) for task in tasks},
    )


def _forecast(rng: np.random.Generator) -> tuple[float, ...]:
    assert len(_NORMAL_QUANTILES) == len(FRACTIONS)
    middle = float(np.exp(rng.normal(8.5, 1.0)))
    return tuple(middle * float(np.exp(z)) for z in _NORMAL_QUANTILES)


def _request(gpus: int) -> Request:
    return Request(cpu_milli=8_000 * gpus, memory_mib=65_536 * gpus, gpus=gpus)


def _running(rng: np.random.Generator, cluster: tuple[Node, ...], count: int) -> Iterator[Task]:
    free = {node.id: [device.id for device in node.devices] for node in cluster}
    for i in range(count):
        gpus = int(rng.choice((1, 1, 1, 1, 1, 1, 2, 2, 4, 8)))
        fitting = [node for node, devices in free.items() if len(devices) >= gpus]
        if not fitting:
            gpus, fitting = 1, [node for node, devices in free.items() if devices]
        node = fitting[int(rng.integers(len(fitting)))]
        held, free[node] = tuple(free[node][:gpus]), free[node][gpus:]
        yield Task(id=f"r{i}", request=_request(gpus), placed=(Slot(node=node, devices=held),))


def _waiting(rng: np.random.Generator, i: int) -> Task:
    kind, priority = rng.random(), int(rng.integers(3))
    models = ("H100",) if rng.random() < 0.2 else ()
    if kind < 0.6:
        request = _request(int(rng.choice((1, 1, 2, 4))))
        return Task(id=f"w{i}", priority=priority, request=request, gpu_models=models)
    if kind < 0.75:
        share = Request(cpu_milli=2_000, gpus=1, gpu_milli=int(rng.choice((250, 500))))
        return Task(id=f"w{i}", priority=priority, request=share, gpu_models=models)
    is_packed = kind >= 0.9
    return Task(
        id=f"w{i}",
        priority=priority,
        request=_request(8),
        replicas=int(rng.choice((2, 4, 8, 16) if is_packed else (1, 2, 4))),
        pack_within="rack" if is_packed else None,
        gpu_models=models,
    )
