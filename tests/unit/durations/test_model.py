"""What forecasts say, and that nine in ten hold."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from app.durations.correction import check
from app.durations.knowledge import Knowledge, Run
from app.durations.model import FRACTIONS, Forecast, Model, in_words
from app.durations.scaling import fit, matrix
from app.durations.shapes import shape_of
from benchmarks.duration_cases import ours, score
from benchmarks.duration_histories import HISTORIES
from protocol.task import TaskSpec


def spec(command: str = "python t.py", **more: Any) -> TaskSpec:
    return TaskSpec.model_validate({"argv": command.split(), **more}, strict=False)


def runs(*seconds: float, ended: bool = True, of: TaskSpec | None = None) -> list[Run]:
    """One after the other."""
    shape = shape_of(of or spec())
    return [
        Run(shape=shape, started_at=at * 1e5, seconds=one, over_at=at * 1e5 + one, ended=ended)
        for at, one in enumerate(seconds)
    ]


def forecast(model: Model, of: TaskSpec | None = None, *, elapsed_seconds: float = 0) -> Forecast:
    found = model.forecast(of or spec(), elapsed_seconds=elapsed_seconds)
    assert found is not None
    return found


def test_nothing_known_is_nothing_said() -> None:
    model = Model.fit([])
    assert model.forecast(spec()) is None
    assert model.forecast(spec(kind="service", duration_seconds=10)) is None


def test_the_limit_alone_is_taken_at_its_word_until_it_is_broken() -> None:
    limited = spec(duration_seconds=100)
    found = forecast(Model.fit([]), limited, elapsed_seconds=40)
    assert (found.source, found.like, set(found.seconds)) == ("limit", 0, {100.0})
    broken = forecast(Model.fit([]), limited, elapsed_seconds=100)
    assert broken.quantile(0.5) == pytest.approx(200, rel=0.01)
    assert broken.seconds[0] > 100


def test_no_quantile_is_beyond_the_limit() -> None:
    model = Model.fit(runs(100, 200, 300, 400))
    found = forecast(model, spec(duration_seconds=150))
    assert found.source == "history"
    assert max(found.seconds) == 150
    assert found.text.endswith("within 2 min, its limit at most")


def test_like_counts_the_runs_that_a_forecast_rests_on() -> None:
    model = Model.fit(runs(100, 110, 120) + runs(7, ended=False))
    found = forecast(model)
    assert (found.source, found.like) == ("history", 3)
    assert found.text.startswith(
        "3 runs of the very same command; in nine cases of ten over within"
    )


def test_a_script_that_was_never_seen_is_forecast_only_from_many_others() -> None:
    new = spec("python new.py")
    few = [run for at in range(9) for run in runs(50, of=spec(f"python {'abcdefghi'[at]}.py"))]
    assert Model.fit(few).forecast(new) is None
    found = forecast(Model.fit(few + runs(50)), new)
    assert (found.source, found.like) == ("queue", 10)
    elsewhere = forecast(Model.fit(few + runs(50)), spec("python new.py", queue="other"))
    assert elsewhere.source == "cluster"


def test_a_task_that_outlives_all_history_has_ever_more_before_it() -> None:
    model = Model.fit(runs(*[100] * 20))
    left = [
        forecast(model, elapsed_seconds=elapsed).quantile(0.5) - elapsed
        for elapsed in (200, 1_000, 10_000, 1e8)
    ]
    assert left == sorted(left)
    assert left[0] > 0


@pytest.mark.parametrize("elapsed", [float("nan"), float("inf")])
def test_elapsed_that_is_no_number_is_refused(elapsed: float) -> None:
    with pytest.raises(ValueError, match="give a number"):
        Model.fit(runs(1)).forecast(spec(), elapsed_seconds=elapsed)


def test_a_clock_that_ran_backwards_is_as_no_time() -> None:
    model = Model.fit(runs(10, 20))
    assert forecast(model, elapsed_seconds=-5) == forecast(model)


def test_epochs_never_seen_are_scaled_to() -> None:
    known = [
        run
        for epochs in (2, 4, 8, 16)
        for run in runs(*[60.0 * epochs] * 3, of=spec(f"python t.py --epochs {epochs}"))
    ]
    found = forecast(Model.fit(known), spec("python t.py --epochs 32"))
    assert 1_400 < found.quantile(0.5) < 2_600


def test_exponents_are_found_through_outliers_and_seeds_have_none() -> None:
    rng = np.random.default_rng(3)
    epochs, seeds = rng.uniform(0, 4, 80), rng.uniform(0, 9, 80)
    seconds = 5 + 0.9 * epochs + rng.normal(0, 0.1, 80)
    seconds[::10] -= 4
    numbers = [{"epochs": a, "seed": b} for a, b in zip(epochs, seeds, strict=True)]
    law = fit(matrix(["epochs", "seed"], numbers), seconds)
    assert law.exponents == pytest.approx([0.9, 0.0], abs=0.05)


def test_knowledge_as_of_then_is_knowledge_without_what_came_later() -> None:
    history = runs(*range(100, 130))
    then = history[20].started_at
    early = Knowledge(history[:20]).distribution(shape_of(spec()))
    late = Knowledge(history).distribution(shape_of(spec()), as_of=then)
    assert early is not None
    assert late is not None
    assert late.below == pytest.approx(early.below)
    assert late.logs == pytest.approx(early.logs)


def test_forecasts_that_were_too_low_are_corrected_upwards() -> None:
    rising = runs(*np.exp(np.linspace(3, 9, 120)))
    knowledge = Knowledge(rising)
    correction = check(knowledge)
    raw = knowledge.distribution(shape_of(spec()))
    assert raw is not None
    assert correction is not None
    p90 = np.array([0.9])
    assert correction.apply(raw).quantiles(p90) > raw.quantiles(p90)


@pytest.mark.parametrize(("name", "every"), [("all at once", 50), ("failing", 100)])
def test_the_90_percent_quantile_holds_for_about_90_percent(name: str, every: int) -> None:
    found = score(HISTORIES[name](5, 1_100), ours, after=500, every=every)
    assert 0.85 <= found.within_p90 <= 0.95
    assert 0.40 <= found.within_p50 <= 0.60


def test_quantiles_lie_between_their_neighbours() -> None:
    found = Forecast(seconds=tuple(10.0 * 2**at for at in range(10)), source="", like=1, text="")
    assert [found.quantile(fraction) for fraction in FRACTIONS] == pytest.approx(found.seconds)
    assert found.seconds[8] < found.quantile(0.9) < found.seconds[9]
    assert found.quantile(0.0) == found.seconds[0]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.25, "0.2 s"), (9.6, "10 s"), (99, "99 s"), (100, "2 min"), (3_599, "1 h"),
     (7_800, "2 h 10 min"), (187_200, "2 d 4 h"), (1e9, "11574 d 1 h")],
)  # fmt: skip
def test_times_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_a_single_run_leaves_the_next_one_as_likely_longer_as_shorter() -> None:
    found = Knowledge(runs(100)).distribution(shape_of(spec()))
    assert found is not None
    assert found.survival(100) == pytest.approx(0.5)


def test_threads_that_ask_at_once_hear_the_same() -> None:
    known = [
        run
        for epochs in range(1, 60)
        for run in runs(60.0 * epochs, of=spec(f"python t.py --epochs {epochs}"))
    ]
    asked = [spec(f"python t.py --epochs {epochs}") for epochs in range(1, 200)]
    alone = [forecast(Model.fit(known), one) for one in asked]
    shared = Model.fit(known)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda one: forecast(shared, one), asked)) == alone
