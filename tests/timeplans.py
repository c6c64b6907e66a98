"""Questions for the time plan, and its draws as the specification reads them."""

import random
from dataclasses import replace

import numpy as np

from solver.problem import Problem
from solver.scheduling.timeplan import FRACTIONS, TimeQuestion, Window
from solver.scheduling.timeplan.check import BEGAN, Stay
from solver.scheduling.timeplan.planning import Draws, play_draws
from tests.problems import random_problem


def question(seed: int, *, nodes: int = 5, tasks: int = 24, draws: int = 3) -> TimeQuestion:
    """A random cluster with everything: shares, gangs, domains, selectors, limits, windows, tasks
    of unknown duration."""
    rng = random.Random(seed)
    problem = random_problem(seed, nodes=nodes, devices=4, tasks=tasks)
    known = [task.id for task in problem.tasks if rng.random() < 0.85]
    windows = []
    for _ in range(rng.choice((0, 0, 1, 3))):
        start = rng.choice((-50.0, 10.0, 100.0))
        windows.append(
            Window(
                nodes=tuple(rng.sample([n.id for n in problem.nodes], min(2, len(problem.nodes)))),
                start_seconds=start,
                end_seconds=start + rng.choice((30.0, 60.0, 500.0)),
                queue=rng.choice((None, "all", "product")),
            )
        )
    return TimeQuestion(
        problem=problem,
        forecasts={task: flat(float(rng.randint(1, 30) * 10)) for task in known},
        windows=tuple(windows),
        horizon_seconds=rng.choice((150.0, 1e6)),
        draws=draws,
    )


def flat(seconds: float) -> tuple[float, ...]:
    """A forecast that is sure."""
    return (seconds,) * len(FRACTIONS)


def played(asked: TimeQuestion) -> tuple[Draws, dict[str, float]]:
    """One draw in which everybody takes what is forecast, and those seconds."""
    seconds = {
        task.id: asked.forecasts[task.id][0] if task.id in asked.forecasts else np.inf
        for task in asked.problem.tasks
    }
    running = np.array([[seconds[task.id] for task in asked.running]], dtype=np.float64)
    waiting = np.array([[seconds[task.id] for task in asked.waiting]], dtype=np.float64)
    return play_draws(asked, running, waiting), seconds


def stays(asked: TimeQuestion, draws: Draws, draw: int = 0) -> dict[str, Stay]:
    """A draw as the specification reads it."""
    found = {
        task.id: Stay(task=task, slots=task.placed, start=BEGAN, end=seconds)
        for task, seconds in zip(asked.running, draws.running_seconds[draw], strict=True)
    }
    for t, task in enumerate(asked.waiting):
        start = draws.answer.start[draw, t]
        if np.isfinite(start):
            end = start + draws.waiting_seconds[draw, t]
            found[task.id] = Stay(task=task, slots=draws.slots(draw, t), start=start, end=end)
    return found


def in_order(problem: Problem) -> Problem:
    """The problem with all tasks of one priority."""
    return replace(problem, tasks=tuple(replace(task, priority=0) for task in problem.tasks))
