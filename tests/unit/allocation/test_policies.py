"""The policies on clusters small enough to reckon by hand."""

import pytest

from solver.allocation.allocation import Allocation
from solver.allocation.check import unfilled, violations
from solver.allocation.jobs import Job, Jobs, Policy
from solver.allocation.policies import allocate
from solver.errors import InvalidProblem


def jobs(*found: Job, accelerators: dict[str, int] | None = None, **more: object) -> Jobs:
    return Jobs(version=1, accelerators=accelerators or {"v100": 1}, jobs=found, **more)  # pyright: ignore[reportArgumentType]


def job(name: str, speed: float = 1.0, **more: object) -> Job:
    return Job(id=name, throughput={"v100": speed}, **more)  # pyright: ignore[reportArgumentType]


def share(found: Allocation, name: str) -> float:
    return found.shares[name]["v100"]


@pytest.mark.parametrize("policy", [Policy.MAX_MIN_FAIRNESS, Policy.WATER_FILLING])
def test_weights_divide_one_accelerator(policy: Policy) -> None:
    found = allocate(jobs(job("a", 5.0), job("b", 9.0, weight=3.0)), policy)
    assert (share(found, "a"), share(found, "b")) == pytest.approx((0.25, 0.75))
    assert found.objective == pytest.approx(0.25)
    assert found.prices == pytest.approx({"v100": 0.25})  # a second one would make it 0.5


def test_an_entitys_jobs_share_its_weight() -> None:
    asked = jobs(job("a", entity="x"), job("b", entity="x"), job("c"))
    found = allocate(asked, Policy.WATER_FILLING)
    assert [share(found, name) for name in "abc"] == pytest.approx([0.25, 0.25, 0.5])
    heavier = jobs(*asked.jobs, entity_weights={"x": 3.0})
    found = allocate(heavier, Policy.WATER_FILLING)
    assert [share(found, name) for name in "abc"] == pytest.approx([0.375, 0.375, 0.25])


def test_what_a_full_job_leaves_goes_to_its_entity_first() -> None:
    # a can't use more than its 0.2 of a second type; b of its entity takes what a leaves.
    a = Job(id="a", throughput={"k80": 1.0}, entity="x", gpus=5)
    b = Job(id="b", throughput={"v100": 1.0}, entity="x")
    c = Job(id="c", throughput={"v100": 1.0})
    asked = jobs(a, b, c, accelerators={"v100": 1, "k80": 5})
    found = allocate(asked, Policy.WATER_FILLING)
    assert found.shares["a"]["k80"] == pytest.approx(1.0)
    assert unfilled(asked, found) == ()
    # b and c share the v100; b has nothing more to give up for a.
    assert found.shares["b"]["v100"] + found.shares["c"]["v100"] == pytest.approx(1.0)


def test_who_waits_for_nothing_gets_all_its_time() -> None:
    found = allocate(jobs(job("a"), job("b"), accelerators={"v100": 7}), Policy.WATER_FILLING)
    assert (share(found, "a"), share(found, "b")) == pytest.approx((1.0, 1.0))
    assert found.prices == {"v100": 0.0}


def test_a_gang_takes_its_accelerators_all_at_once() -> None:
    found = allocate(jobs(job("a", gpus=4), accelerators={"v100": 4}), Policy.MAX_THROUGHPUT)
    assert share(found, "a") == pytest.approx(1.0)
    found = allocate(
        jobs(job("a", gpus=4), job("b", gpus=4), accelerators={"v100": 4}), Policy.MAX_MIN_FAIRNESS
    )
    assert share(found, "a") == pytest.approx(0.5)


def test_the_makespan_is_in_seconds() -> None:
    found = allocate(jobs(job("a", 2.0, steps=600.0), job("b", 1.0, steps=300.0)), Policy.MAKESPAN)
    assert found.objective == pytest.approx(600.0)
    assert found.unit == "seconds"
    assert found.prices == pytest.approx(
        {"v100": 600.0}
    )  # two would halve it; the first bit of one


def test_finish_time_fairness_is_even_where_nothing_tells_jobs_apart() -> None:
    asked = jobs(job("a", steps=100.0), job("b", steps=100.0))
    found = allocate(asked, Policy.FINISH_TIME_FAIRNESS)
    assert found.objective == pytest.approx(1.0)


def test_throughput_alone_starves_the_slow() -> None:
    found = allocate(jobs(job("a", 1.0), job("b", 2.0)), Policy.MAX_THROUGHPUT)
    assert (share(found, "a"), share(found, "b")) == pytest.approx((0.0, 1.0))


def test_cheap_steps_go_first_and_deadlines_before_them() -> None:
    a = Job(id="a", throughput={"v100": 4.0, "k80": 3.0}, steps=350.0, deadline_seconds=100.0)
    asked = jobs(a, accelerators={"v100": 1, "k80": 1}, cost_per_hour={"v100": 4.0, "k80": 1.0})
    found = allocate(asked, Policy.MIN_COST)
    # 3.5 steps a second: half of the time on each; without the deadline all of it on the k80.
    assert found.shares["a"] == pytest.approx({"v100": 0.5, "k80": 0.5})
    assert found.objective == pytest.approx(0.5 * 1.0 + 0.5 * 3.0)


def test_deadlines_that_can_not_be_kept_are_named() -> None:
    alone = jobs(job("a", 1.0, steps=100.0, deadline_seconds=50.0), job("b"))
    with pytest.raises(InvalidProblem) as refused:
        allocate(alone, Policy.MIN_COST)
    assert [fault.path for fault in refused.value.faults] == ["jobs[0].deadline_seconds"]
    hurried = {"steps": 70.0, "deadline_seconds": 100.0}
    together = jobs(job("a", **hurried), job("b"), job("c", **hurried))
    with pytest.raises(InvalidProblem) as refused:
        allocate(together, Policy.MIN_COST)
    paths = [fault.path for fault in refused.value.faults]
    assert paths == ["jobs[0].deadline_seconds", "jobs[2].deadline_seconds"]


@pytest.mark.parametrize("policy", list(Policy))
def test_no_jobs_share_nothing(policy: Policy) -> None:
    found = allocate(jobs(), policy)
    assert (found.objective, found.shares, found.prices) == (0.0, {}, {"v100": 0.0})


@pytest.mark.parametrize("policy", list(Policy))
def test_a_type_of_which_there_is_none_gives_none(policy: Policy) -> None:
    one = Job(id="a", throughput={"v100": 1.0, "none": 9.0}, steps=5.0)
    found = allocate(jobs(one, accelerators={"v100": 1, "none": 0}), policy)
    assert found.shares["a"]["none"] == 0.0
    assert violations(jobs(one, accelerators={"v100": 1, "none": 0}), found) == ()


@pytest.mark.parametrize(
    ("shares", "path"),
    [
        ({"a": {"v100": 0.7}, "b": {"v100": 0.7}}, "accelerators.v100"),
        ({"a": {"v100": 1.2}}, "shares.a"),
        ({"a": {"v100": -0.1}}, "shares.a.v100"),
        ({"a": {"tpu": 0.1}}, "shares.a.tpu"),
        ({"z": {"v100": 0.1}}, "shares.z"),
    ],
)
def test_the_check_finds_what_breaks_a_rule(shares: dict, path: str) -> None:
    asked = jobs(job("a"), job("b"))
    broken = Allocation(
        policy=Policy.MAKESPAN, status="optimal", objective=0.0, unit="", shares=shares, prices={},
        seconds=0.0,
    )  # fmt: skip
    assert path in {fault.path for fault in violations(asked, broken)}


def test_the_check_finds_who_could_be_filled_further() -> None:
    asked = jobs(job("a"), job("b", 2.0))
    uneven = Allocation(
        policy=Policy.WATER_FILLING,
        status="optimal",
        objective=0.4,
        unit="ratio",
        shares={"a": {"v100": 0.4}, "b": {"v100": 0.6}},
        prices={},
        seconds=0.0,
    )
    assert {fault.path for fault in unfilled(asked, uneven)} == {"shares.a"}
