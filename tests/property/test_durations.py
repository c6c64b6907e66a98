"""Whatever the history: forecasts ascend, respect the limit, lie ahead, and know no order."""

import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from app.durations.knowledge import Run
from app.durations.model import Model
from app.durations.shapes import shape_of
from protocol.task import TaskSpec

SECONDS = st.floats(min_value=0, max_value=1e9, allow_nan=False)
COMMANDS = st.sampled_from(
    ["a.py", "a.py --epochs 1", "a.py --epochs 5", "a.py --epochs 90 --x", "b.py /data/7", "b.py"]
)


def spec_of(command: str, **more: Any) -> TaskSpec:
    return TaskSpec.model_validate({"argv": ["python", *command.split()], **more}, strict=False)


@st.composite
def a_run(draw: st.DrawFn) -> Run:
    started, seconds = draw(SECONDS), draw(SECONDS)
    over = draw(st.booleans())
    spec = spec_of(draw(COMMANDS), queue=draw(st.sampled_from(["q", "r"])))
    return Run(
        shape=shape_of(spec),
        started_at=started,
        seconds=seconds,
        over_at=started + seconds if over else None,
        ended=over and draw(st.booleans()),
    )


@given(
    runs=st.lists(a_run(), max_size=25),
    command=COMMANDS,
    limit=st.none() | st.floats(min_value=1e-3, max_value=1e9),
    elapsed=SECONDS,
)
@settings(max_examples=150, deadline=None)
def test_forecasts_ascend_beyond_what_has_elapsed_and_within_the_limit(
    runs: list[Run], command: str, limit: float | None, elapsed: float
) -> None:
    spec = spec_of(command, duration_seconds=limit)
    found = Model.fit(runs).forecast(spec, elapsed_seconds=elapsed)
    if found is None:
        assert limit is None
        assert not any(run.ended and run.shape.script == shape_of(spec).script for run in runs)
        return
    assert list(found.seconds) == sorted(found.seconds)
    assert found.seconds[0] > elapsed
    assert all(math.isfinite(seconds) for seconds in found.seconds)
    if limit is not None and elapsed < limit:
        assert found.seconds[-1] <= limit


@given(runs=st.lists(a_run(), max_size=20), data=st.data(), command=COMMANDS)
@settings(max_examples=80, deadline=None)
def test_the_order_in_which_runs_are_read_changes_nothing(
    runs: list[Run], data: st.DataObject, command: str
) -> None:
    shuffled = data.draw(st.permutations(runs))
    spec = spec_of(command)
    assert Model.fit(runs).forecast(spec) == Model.fit(shuffled).forecast(spec)
