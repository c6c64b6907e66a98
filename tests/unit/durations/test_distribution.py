"""Distributions of weighted, cut-off runs, against scipy's and by hand."""

import math

import numpy as np
import pytest
from scipy.stats import CensoredData, ecdf

from app.durations.distribution import Distribution, product_limit


def of_runs(*seconds: float, cut: tuple[float, ...] = ()) -> Distribution:
    logs = np.log(np.array([*seconds, *cut]))
    ended = np.array([True] * len(seconds) + [False] * len(cut))
    return product_limit(logs, ended, np.full(len(logs), 1 / (len(logs) + 1)))


def test_the_product_limit_of_equal_weights_is_kaplan_meiers() -> None:
    rng = np.random.default_rng(7)
    for _ in range(20):
        seconds = rng.uniform(1, 100, 30)
        ended = rng.random(30) < 0.6
        found = product_limit(np.log(seconds), ended, np.full(30, (1 - 1e-12) / 30))
        theirs = ecdf(CensoredData(uncensored=seconds[ended], right=seconds[~ended])).cdf
        for at in seconds[ended]:
            assert 1 - found.survival(at) == pytest.approx(theirs.evaluate(at), abs=1e-9)


def test_n_runs_leave_one_in_n_plus_1_beyond_the_longest() -> None:
    found = of_runs(10, 20, 30)
    assert found.survival(30) == pytest.approx(1 / 4)
    assert found.quantiles(np.array([0.25, 0.5, 0.75])) == pytest.approx([10, 20, 30])


def test_beyond_the_longest_twice_as_long_is_half_as_likely() -> None:
    found = of_runs(10, 20, 30)
    assert found.survival(60) == pytest.approx(found.survival(30) / 2)
    assert found.quantiles(np.array([0.5]), elapsed_seconds=1_000) == pytest.approx([2_000])


def test_a_run_that_was_cut_off_counts_with_those_that_took_longer() -> None:
    without, with_cut = of_runs(10, 20, 30), of_runs(10, 20, 30, cut=(15,))
    assert with_cut.survival(20) > without.survival(20)
    assert of_runs(cut=(50,)).survival(50) == 1.0
    assert of_runs(cut=(50,)).quantiles(np.array([0.5])) == pytest.approx([100])


def test_what_has_run_for_long_is_compared_with_what_ran_longer() -> None:
    found = of_runs(*range(10, 110, 10))
    half = np.array([0.5])
    assert found.quantiles(half, elapsed_seconds=80)[0] == pytest.approx(100, rel=0.2)
    for elapsed in (0, 1, 55, 100, 101, 1e9, 1e15):
        quantiles = found.quantiles(np.array([0.0, 0.05, 0.5, 0.999]), elapsed_seconds=elapsed)
        assert (quantiles > elapsed).all()
        assert np.isfinite(quantiles).all()
        assert (np.diff(quantiles) >= 0).all()


def test_survival_and_quantiles_undo_each_other() -> None:
    found = of_runs(3, 8, 8, 40, cut=(5, 100))
    for fraction in (0.01, 0.1, 0.3, 0.5, 0.7, 0.95):
        [seconds] = found.quantiles(np.array([fraction]))
        at = 1 - found.survival(math.nextafter(seconds, math.inf))
        before = 1 - found.survival(seconds * (1 - 1e-9))
        assert before - 1e-6 <= fraction <= at + 1e-6
