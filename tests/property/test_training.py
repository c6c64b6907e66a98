"""A checkpoint directory against a model of it: whatever attempts do there, in whatever order."""

import os
import tempfile
from contextlib import suppress
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from client.training import StaleGenerationError, Training, latest_in

GENERATIONS = st.integers(1, 4)
ACTIONS = st.one_of(
    st.tuples(st.just("begin"), GENERATIONS),
    st.tuples(st.sampled_from(["save", "fail", "die"]), GENERATIONS),
    st.tuples(st.just("cut"), st.just(0)),
)


@settings(deadline=None)
@given(st.lists(ACTIONS, max_size=25), st.integers(1, 3))
def test_the_latest_is_the_last_whole_one_of_the_newest_attempt_that_saved(
    actions: list[tuple[str, int]], keep: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        attempts: dict[int, Training] = {}
        claimed = 0
        published: list[tuple[int, int]] = []  # newest last, of those that are whole
        for step, (action, generation) in enumerate(actions, start=1):
            if action == "cut":
                if published:
                    lost = latest_in(folder)
                    assert lost is not None
                    os.truncate(lost.path, 1)
                    published.pop()
            elif action == "begin":
                with mock.patch.dict(os.environ, {"STOWPLAN_GENERATION": str(generation)}):
                    try:
                        attempts[generation] = Training(folder, keep=keep)
                        assert generation >= claimed
                    except StaleGenerationError:
                        assert generation < claimed
                    claimed = max(claimed, generation)
            elif generation in attempts:
                run = attempts[generation]
                if action == "die":  # in the middle of it: what is there is never looked at
                    (run.directory / f".saving-g{generation:010d}-s{step:012d}-r0.pt").touch()
                elif action == "fail":
                    with suppress(RuntimeError), run.saving(step) as path:
                        path.write_text("half")
                        raise RuntimeError
                else:
                    try:
                        with run.saving(step) as path:
                            path.write_text("state")
                        assert generation == claimed
                        published.append((generation, step))
                    except StaleGenerationError:
                        assert generation < claimed
                    published = published[-keep:]
            found = latest_in(folder)
            if found is None:
                assert not published
            elif published:
                assert (found.generation, found.step) == published[-1]
                assert found.path.read_text() == "state"
