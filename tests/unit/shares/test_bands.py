"""How well founded a task's claim is."""

from solver.shares.bands import Band, Shares, Standing, bands
from solver.shares.entitlements import Entitlement


def share(**own: int) -> dict[str, Entitlement]:
    return {
        queue: Entitlement(whole={"gpus": gpus}, own={"gpus": gpus}) for queue, gpus in own.items()
    }


def task(name: str, gpus: int, *, queue: str = "a", **more: bool) -> Standing:
    return Standing(task=name, queue=queue, needs=({"gpus": gpus},), **{"runs": False, **more})


def shares(guaranteed: int, now: int, by_history: int | None = None) -> Shares:
    return Shares(
        guaranteed=share(a=guaranteed),
        now=share(a=now),
        by_history=share(a=now if by_history is None else by_history),
    )


def test_tasks_have_the_guarantee_first_then_the_entitlement_and_then_borrow() -> None:
    waiting = [task("one", 2), task("two", 2), task("three", 2)]
    assert bands(waiting, shares(2, 4)) == {
        "one": Band.GUARANTEED,
        "two": Band.ENTITLED,
        "three": Band.BORROWING,
    }


def test_what_runs_beyond_the_entitlement_is_held_and_above_all_that_borrows() -> None:
    found = bands([task("in", 4, runs=True), task("over", 4, runs=True)], shares(0, 4))
    assert found == {"in": Band.ENTITLED, "over": Band.HELD}
    assert Band.BORROWING < Band.PUT_OFF < Band.DUE < Band.HELD < Band.ENTITLED < Band.GUARANTEED


def test_a_gang_too_large_for_the_share_is_passed_over() -> None:
    found = bands([task("gang", 8), task("small", 1)], shares(0, 4))
    assert found == {"gang": Band.BORROWING, "small": Band.ENTITLED}


def test_nobody_of_its_own_queue_is_above_a_gang_that_runs_but_by_priority() -> None:
    """The order is by priority, so the small task has a lower one, or waits while the gang runs."""
    found = bands([task("gang", 8, runs=True), task("small", 1)], shares(2, 4))
    assert found == {"gang": Band.HELD, "small": Band.BORROWING}


def test_history_puts_off_who_waits_and_never_touches_who_runs() -> None:
    order = [task("runs", 4, runs=True), task("waits", 4)]
    assert bands(order, shares(0, 8, by_history=0)) == {
        "runs": Band.ENTITLED,
        "waits": Band.PUT_OFF,
    }
    assert bands([task("waits", 8)], shares(0, 4, by_history=8)) == {"waits": Band.DUE}


def test_what_nothing_can_end_comes_off_the_share_first() -> None:
    order = [task("urgent", 4), task("stays", 4, runs=True, fixed=True)]
    assert bands(order, shares(0, 4)) == {"stays": Band.HELD, "urgent": Band.BORROWING}


def test_a_task_that_may_have_any_of_two_models_takes_the_one_that_is_left() -> None:
    own = {"gpus": 9, "gpus:H100": 1, "gpus:A100": 1}
    entitled = {"a": Entitlement(whole=own, own=own)}
    ways = ({"gpus": 1, "gpus:H100": 1}, {"gpus": 1, "gpus:A100": 1})
    order = [Standing(task=name, queue="a", needs=ways, runs=False) for name in "xyz"]
    found = bands(order, Shares(guaranteed=share(a=0), now=entitled, by_history=entitled))
    assert found == {"x": Band.ENTITLED, "y": Band.ENTITLED, "z": Band.BORROWING}
