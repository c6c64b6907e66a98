"""Policies equal independent linear programs, and water filling is lexicographic."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solver.allocation.check import unfilled, violations
from solver.allocation.jobs import Policy
from solver.allocation.policies import allocate
from tests.allocations import WholeProgram, random_jobs

SEEDS = st.integers(0, 2**32 - 1)
SEVERAL = settings(max_examples=20, deadline=None)


@pytest.mark.parametrize("policy", list(Policy))
@SEVERAL
@given(seed=SEEDS)
def test_shares_keep_every_rule(policy: Policy, seed: int) -> None:
    asked = random_jobs(seed, jobs=12, types=5, entities=3)
    assert violations(asked, allocate(asked, policy)) == ()


@SEVERAL
@given(seed=SEEDS)
def test_values_equal_whole_linear_programs(seed: int) -> None:
    asked = random_jobs(seed, jobs=10, types=4)
    whole = WholeProgram(asked)
    expected = {
        Policy.MAX_MIN_FAIRNESS: whole.max_min(),
        Policy.MAKESPAN: whole.makespan(),
        Policy.MAX_THROUGHPUT: whole.most(whole.speed),
        Policy.MIN_COST: whole.most(whole.speed / whole.cost),
        Policy.FINISH_TIME_FAIRNESS: whole.finish_time(),
    }
    for policy, value in expected.items():
        assert allocate(asked, policy).objective == pytest.approx(value, rel=1e-6), policy


@settings(max_examples=10, deadline=None)
@given(seed=SEEDS)
def test_water_filling_equals_fixing_one_job_after_the_other(seed: int) -> None:
    asked = random_jobs(seed, jobs=6, types=3)
    whole = WholeProgram(asked)
    found = allocate(asked, Policy.WATER_FILLING)
    shares = [[found.shares[job.id][name] for name in whole.types] for job in asked.jobs]
    ratios = whole.levels_of(shares) / whole.weight
    assert np.sort(ratios) == pytest.approx(np.sort(whole.water_filled()), rel=1e-4, abs=1e-6)
    assert found.objective == pytest.approx(whole.max_min(), rel=1e-6)


@SEVERAL
@given(seed=SEEDS)
def test_nobody_filled_by_entities_could_be_filled_further(seed: int) -> None:
    asked = random_jobs(seed, jobs=14, types=4, entities=3)
    assert unfilled(asked, allocate(asked, Policy.WATER_FILLING)) == ()


@settings(max_examples=10, deadline=None)
@given(seed=SEEDS)
def test_max_min_shares_are_not_taken_for_filled_unless_they_are(seed: int) -> None:
    asked = random_jobs(seed, jobs=8, types=3)
    whole = WholeProgram(asked)
    fair = allocate(asked, Policy.MAX_MIN_FAIRNESS)
    shares = [[fair.shares[job.id][name] for name in whole.types] for job in asked.jobs]
    same = np.allclose(
        np.sort(whole.levels_of(shares) / whole.weight), np.sort(whole.water_filled()), rtol=1e-4
    )
    assert same or unfilled(asked, fair) != ()


@SEVERAL
@given(seed=SEEDS)
def test_a_price_bounds_what_one_more_accelerator_brings(seed: int) -> None:
    asked = random_jobs(seed, jobs=8, types=3)
    whole = WholeProgram(asked)
    found = allocate(asked, Policy.MAX_MIN_FAIRNESS)
    for j, name in enumerate(whole.types):
        # The value is concave in the counts, so that the price is the most that a small change
        # brings for each accelerator. (The definition of a job's norm stays as it was.)
        side = len(asked.jobs) + j
        whole.sides[side] += 0.01
        gain = whole.max_min() - found.objective
        whole.sides[side] -= 0.01
        assert gain <= found.prices[name] * 0.01 + 1e-7 * max(1.0, found.objective)
