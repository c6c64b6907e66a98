"""Forecasts of how long tasks run: whether they hold, what they cost, and what a large model would
have said.

Each history is gone through as a service would live it: forecasts of the next runs from what had
ended when they started, and again. The loss is the mean pinball loss of the logarithm of seconds
over all quantiles: 0.1 is about a tenth off.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from app.durations.model import FRACTIONS, Model
from benchmarks.duration_histories import HISTORIES, Known, as_known
from benchmarks.harness import Case, LeftOut

RUNS, AFTER, EVERY, SEED = 2_000, 1_000, 25, 1
RIVAL_EVERY = 500
"""It takes minutes to learn."""
LARGE_RUNS, ASKED = 20_000, 2_000
Quantiles = np.ndarray
Forecaster = Callable[[Known], Quantiles]


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    loss: float
    within_p50: float
    within_p90: float


def cases() -> Iterator[Case | LeftOut]:
    """Whether nine in ten hold in every kind of history, then the rival, then the cost."""
    for name, make in HISTORIES.items():
        found = score(make(SEED, RUNS), ours)
        yield Case(
            case=f"durations, {name}: runs within their 90 % quantile, off 0.9 by",
            value=abs(found.within_p90 - 0.9),
            unit="ratio",
            better="lower",
            must=0.05,
            aim=0.02,
            note=f"{found.within_p90:.3f}; median {found.within_p50:.3f}; loss {found.loss:.3f}",
        )
    yield _rival()
    yield from _cost()


def score(known: list[Known], learn: Callable[[list[Known], float], Forecaster], *,
          after: int = AFTER, every: int = EVERY) -> Score:  # fmt: skip
    """How forecasts by what ``learn`` makes of the past did, of runs that ended by themselves."""
    fractions = np.array(FRACTIONS)
    losses: list[float] = []
    within: list[tuple[bool, bool]] = []
    for at in range(after, len(known), every):
        forecast = learn(known[:at], known[at].started_at)
        for run in known[at : at + every]:
            if not run.ended:
                continue
            logs = np.log(forecast(run))
            off = np.log(run.seconds) - logs
            losses.append(float(np.mean(np.maximum(fractions * off, (fractions - 1) * off))))
            p50, p90 = np.exp(np.interp([0.5, 0.9], fractions, logs))
            within.append((run.seconds <= p50, run.seconds <= p90))
    p50, p90 = np.mean(within, axis=0)
    return Score(loss=float(np.mean(losses)), within_p50=float(p50), within_p90=float(p90))


def ours(past: list[Known], now: float) -> Forecaster:
    model = Model.fit(as_known(past, now))

    def forecast(run: Known) -> Quantiles:
        found = model.forecast(run.spec)
        assert found is not None
        return np.array(found.seconds)

    return forecast


def boosted(past: list[Known], now: float) -> Forecaster:
    """The usual way: gradient-boosted quantile regression on the same keys and numbers, each
    quantile shifted until it held on the newest fifth (split conformal)."""
    from sklearn.ensemble import HistGradientBoostingRegressor  # noqa: PLC0415 - a rival's

    ended = [run for run in past if run.ended and run.ended_at <= now]
    codes: dict[tuple[int, str], int] = {}
    names = sorted({name for run in ended for name, _ in run.shape.numbers})

    def features(runs: list[Known]) -> np.ndarray:
        rows = []
        for run in runs:
            numbers = dict(run.shape.numbers)
            keys = enumerate(run.shape.keys[1:])
            known = [codes.setdefault(key, len(codes) % 250) for key in keys]
            rows.append([*known, *(numbers.get(name, -99.0) for name in names)])
        return np.array(rows, dtype=np.float64)

    x, y = features(ended), np.log([run.seconds for run in ended])
    cut = len(ended) * 4 // 5
    learned = []
    for fraction in FRACTIONS:
        model = HistGradientBoostingRegressor(
            loss="quantile", quantile=fraction, max_iter=60, min_samples_leaf=5,
            categorical_features=[0, 1, 2, 3],
        ).fit(x[:cut], y[:cut])  # fmt: skip
        shift = np.quantile(y[cut:] - model.predict(x[cut:]), fraction)
        learned.append((model, shift))

    def forecast(run: Known) -> Quantiles:
        row = features([run])
        return np.exp(np.sort([model.predict(row)[0] + shift for model, shift in learned]))

    return forecast


def _rival() -> Case | LeftOut:
    name = "durations, all at once: loss / gradient boosting's"
    try:
        import sklearn  # noqa: F401, PLC0415 - of the extra torch
    except ImportError:
        return LeftOut(case=name, reason="scikit-learn isn't installed")
    known = HISTORIES["all at once"](SEED, RUNS)
    theirs = score(known, boosted, every=RIVAL_EVERY)
    mine = score(known, ours, every=RIVAL_EVERY)
    return Case(
        case=name,
        value=mine.loss / theirs.loss,
        unit="ratio",
        better="lower",
        must=1.0,
        note=f"learning every {RIVAL_EVERY} runs; their 90 % quantile held for "
        f"{theirs.within_p90:.3f}",
    )


def _cost() -> Iterator[Case]:
    known = HISTORIES["all at once"](SEED, LARGE_RUNS)
    runs = as_known(known, known[-1].started_at + 1)
    start = time.perf_counter()
    model = Model.fit(runs)
    yield Case(
        case=f"durations: learning from {LARGE_RUNS:,} runs",
        value=time.perf_counter() - start, unit="s", better="lower", must=1.0, aim=0.5,
    )  # fmt: skip
    specs = [run.spec for run in known[-ASKED:]]
    start = time.perf_counter()
    for spec in specs:
        model.forecast(spec)
    yield Case(
        case=f"durations: {ASKED:,} forecasts, each of another shape",
        value=time.perf_counter() - start, unit="s", better="lower", must=2.0, aim=1.0,
    )  # fmt: skip
