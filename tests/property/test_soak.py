"""The same facts as in the tests beside this one, over many more schedules: only for `make soak`.

``SOAK_SCHEDULES=N`` sets how many. A schedule that fails is named by its seed, so it can be run
alone.
"""

import os
import time
from dataclasses import replace

import pytest
from hypothesis import settings

from solver.check import violations
from solver.pipeline import solve
from solver.plan import Status
from tests.problems import random_problem
from tests.property.test_agent_reconcile import AgentMachine

pytestmark = pytest.mark.soak

SCHEDULES = int(os.environ.get("SOAK_SCHEDULES", "200"))
AGENT_EXAMPLES_PER_SCHEDULE = 10


@pytest.mark.parametrize("seed", range(SCHEDULES))
def test_no_plan_breaks_a_rule_beats_its_bound_or_claims_more_than_it_proves(seed: int) -> None:
    problem = random_problem(seed)
    problem = replace(problem, budget=replace(problem.budget, workers=1))  # xdist has the others
    plan = solve(problem, clock=time.monotonic)
    assert violations(problem, plan) == ()
    for term in plan.objective:
        better = term.value - term.bound if term.name == "placed" else term.bound - term.value
        assert better <= 0, f"{term.name} {term.value} beats its bound {term.bound}"
    proven = all(term.gap == 0 for term in plan.objective)
    assert proven == (plan.status is Status.OPTIMAL)


class LongAgentMachine(AgentMachine):
    """The agent's machine again: a test case of its own, with settings of its own."""


TestLongAgentMachine = LongAgentMachine.TestCase
TestLongAgentMachine.settings = settings(
    max_examples=max(1, AGENT_EXAMPLES_PER_SCHEDULE * SCHEDULES),
    stateful_step_count=100,
    deadline=None,
)
TestLongAgentMachine = pytest.mark.timeout(max(180, SCHEDULES))(TestLongAgentMachine)
