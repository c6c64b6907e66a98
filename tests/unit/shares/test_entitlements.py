"""Entitlements, by example and against a linear program that knows nothing of filling."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from solver.problem import Queue
from solver.shares.entitlements import Entitlement, Tree, entitlements
from solver.shares.filling import Claim, fill
from solver.shares.history import faded_weights

MANY = 10**6


def whole(
    queues: list[Queue], demand: dict[str, int], capacity: int, **options: object
) -> dict[str, int]:
    wanted = {queue: {"gpus": quantity} for queue, quantity in demand.items()}
    found = entitlements(Tree(queues), wanted, {"gpus": capacity}, **options)  # pyright: ignore[reportArgumentType]
    return {queue: one.whole["gpus"] for queue, one in found.items()}


@pytest.mark.parametrize(
    ("queues", "demand", "capacity", "expected"),
    [
        pytest.param(
            [Queue(id="a"), Queue(id="b")], {"a": 9, "b": 9}, 10, {"a": 5, "b": 5}, id="equals"
        ),
        pytest.param(
            [Queue(id="a", weight=3), Queue(id="b")],
            {"a": 99, "b": 99},
            12,
            {"a": 9, "b": 3},
            id="by weight",
        ),
        pytest.param(
            [Queue(id="a"), Queue(id="b")],
            {"a": 2, "b": 99},
            10,
            {"a": 2, "b": 8},
            id="what one leaves the other has",
        ),
        pytest.param(
            [Queue(id="a", guaranteed={"gpus": 6}), Queue(id="b"), Queue(id="c")],
            {"a": 99, "b": 99, "c": 99},
            12,
            {"a": 8, "b": 2, "c": 2},
            id="the rest is shared beyond a guarantee",
        ),
        pytest.param(
            [Queue(id="a", guaranteed={"gpus": 8}), Queue(id="b", guaranteed={"gpus": 4})],
            {"a": 8, "b": 8},
            6,
            {"a": 4, "b": 2},
            id="guarantees of lost nodes shrink alike",
        ),
        pytest.param(
            [Queue(id="a", limit={"gpus": 3}), Queue(id="b")],
            {"a": 9, "b": 4},
            10,
            {"a": 3, "b": 4},
            id="a limit is never passed, even if some stays idle",
        ),
        pytest.param(
            [Queue(id="a", weight=0), Queue(id="b")],
            {"a": 9, "b": 4},
            10,
            {"a": 0, "b": 4},
            id="without a weight only what is guaranteed",
        ),
        pytest.param(
            [
                Queue(id="ml"), Queue(id="ops"),
                Queue(id="ml-a", parent="ml"), Queue(id="ml-b", parent="ml", weight=3),
            ],
            {"ml-a": 99, "ml-b": 99, "ops": 99},
            16,
            {"ml": 8, "ops": 8, "ml-a": 2, "ml-b": 6},
            id="down the tree",
        ),
        pytest.param(
            [
                Queue(id="ml", guaranteed={"gpus": 2}), Queue(id="ops"),
                Queue(id="ml-a", parent="ml", guaranteed={"gpus": 6}),
            ],
            {"ml-a": 99, "ops": 99},
            10,
            {"ml": 8, "ops": 2, "ml-a": 8},
            id="what is guaranteed below is guaranteed above",
        ),
    ],
)  # fmt: skip
def test_a_queue_may_hold(
    queues: list[Queue], demand: dict[str, int], capacity: int, expected: dict[str, int]
) -> None:
    assert whole(queues, demand, capacity) == expected


def test_tasks_of_an_inner_queue_share_with_the_queues_below() -> None:
    tree = Tree([Queue(id="ml"), Queue(id="ml-a", parent="ml")])
    wanted = {"ml": {"gpus": 99}, "ml-a": {"gpus": 99}}
    assert entitlements(tree, wanted, {"gpus": 8}) == {
        "ml": Entitlement(whole={"gpus": 8}, own={"gpus": 4}),
        "ml-a": Entitlement(whole={"gpus": 4}, own={"gpus": 4}),
    }


def test_what_is_guaranteed_to_a_parent_is_shared_below_it() -> None:
    queues = [
        Queue(id="ml", guaranteed={"gpus": 8}),
        Queue(id="ml-a", parent="ml"),
        Queue(id="ml-b", parent="ml"),
        Queue(id="ops"),
    ]
    demand = {"ml-a": 99, "ml-b": 99, "ops": 99}
    found = whole(queues, demand, 20, guaranteed_only=True)
    assert found == {"ml": 8, "ml-a": 4, "ml-b": 4, "ops": 0}


def test_who_has_held_more_than_its_part_is_entitled_to_less_for_a_while() -> None:
    queues = [Queue(id="a"), Queue(id="b")]
    both = {"a": 99, "b": 99}
    even = faded_weights(Tree(queues), {"a": 5.0, "b": 5.0})
    assert whole(queues, both, 12, weights=even) == {"a": 6, "b": 6}
    idle_holder = faded_weights(Tree(queues), {"a": 10.0})
    assert whole(queues, both, 15, weights=idle_holder) == {"a": 3, "b": 12}
    # Alone, it has it all however much it has held.
    assert whole(queues, {"a": 99}, 12, weights=idle_holder) == {"a": 12, "b": 0}


def test_what_can_not_be_split_goes_whole_to_the_largest_remainder() -> None:
    both = {"a": 99, "b": 99}
    queues = [Queue(id="a"), Queue(id="b", weight=2)]
    assert whole(queues, both, 10, units={"gpus": 4}) == {"a": 4, "b": 4}
    assert whole(queues, both, 16, units={"gpus": 4}) == {"a": 4, "b": 12}


quantities = st.integers(0, 40)


@st.composite
def trees(draw: st.DrawFn) -> list[Queue]:
    queues: list[Queue] = []
    for number in range(draw(st.integers(1, 7))):
        above = [None, *(queue.id for queue in queues)]
        guaranteed = draw(st.one_of(st.just(0), quantities))
        limit = draw(st.one_of(st.none(), st.integers(guaranteed, 60)))
        queues.append(
            Queue(
                id=f"q{number}",
                parent=draw(st.sampled_from(above)),
                weight=draw(st.integers(1, 5)),
                guaranteed={"gpus": guaranteed} if guaranteed else {},
                limit={} if limit is None else {"gpus": limit},
            )
        )
    return queues


@given(st.data(), trees(), st.integers(0, 120))
def test_entitlements_keep_to_the_tree_and_leave_nothing_idle(
    data: st.DataObject, queues: list[Queue], capacity: int
) -> None:
    demand = {queue.id: data.draw(quantities) for queue in queues}
    tree = Tree(queues)
    wanted = {queue: {"gpus": quantity} for queue, quantity in demand.items()}
    found = entitlements(tree, wanted, {"gpus": capacity})
    useful: dict[str, int] = {}
    for queue in tree.bottom_up():
        below = tree.below.get(queue.id, [])
        useful[queue.id] = min(
            demand[queue.id] + sum(useful[child.id] for child in below),
            queue.limit.get("gpus", MANY),
        )
        one = found[queue.id]
        parts = sum(found[child.id].whole["gpus"] for child in below) + one.own["gpus"]
        assert parts == one.whole["gpus"] <= useful[queue.id]
        assert one.own["gpus"] <= demand[queue.id]
    top = tree.below[None]
    assert sum(found[q.id].whole["gpus"] for q in top) == min(
        capacity, sum(useful[q.id] for q in top)
    )


@given(st.data(), st.integers(2, 6), st.integers(0, 100))
def test_no_envy_between_equal_queues_and_a_guarantee_is_had(
    data: st.DataObject, count: int, capacity: int
) -> None:
    guaranteed = data.draw(st.integers(0, capacity // count))
    queues = [
        Queue(id=str(number), guaranteed={"gpus": guaranteed} if guaranteed else {})
        for number in range(count)
    ]
    demand = {queue.id: data.draw(quantities) for queue in queues}
    found = whole(queues, demand, capacity)
    for one in queues:
        assert found[one.id] >= min(demand[one.id], guaranteed, capacity // count)
        # The incentive to share: no less than with a cluster of its own, an n-th of this.
        assert found[one.id] >= min(demand[one.id], capacity // count)
        for other in queues:
            if found[one.id] < found[other.id] - 1:  # but for a unit that can't be split
                assert found[one.id] == demand[one.id]


@given(
    st.integers(0, 100),
    st.lists(
        st.tuples(st.integers(0, 10), st.integers(0, 30), st.integers(1, 9)),
        min_size=1,
        max_size=6,
    ),
)
def test_filling_is_the_lexicographic_optimum_of_linear_programs(
    amount: int, given_claims: list[tuple[int, int, int]]
) -> None:
    claims = [Claim(floor=f, ceiling=f + room, weight=w) for f, room, w in given_claims]
    if sum(claim.floor for claim in claims) > amount:
        return
    exact = _lexicographic(amount, claims)
    found = fill(amount, claims)
    assert sum(found) == min(amount, sum(claim.ceiling for claim in claims))
    assert np.abs(np.array(found) - exact).max() < 1 + 1e-6


def _lexicographic(amount: int, claims: list[Claim]) -> np.ndarray:
    """The least level as high as can be, then the next, each by a linear program of its own."""
    count = len(claims)
    done: dict[int, float] = {}
    while len(done) < count:
        # max t: x_i >= floor_i + w_i t for those that aren't full yet
        rows, right = [[1.0] * count + [0.0]], [float(amount)]
        for i, claim in enumerate(claims):
            if i not in done:
                rows.append([-1.0 if j == i else 0.0 for j in range(count)] + [float(claim.weight)])
                right.append(-float(claim.floor))
        bounds = [
            (done[i], done[i]) if i in done else (claim.floor, claim.ceiling)
            for i, claim in enumerate(claims)
        ]
        answer = linprog([0.0] * count + [-1.0], rows, right, bounds=[*bounds, (0, None)])
        assert answer.x is not None
        level = answer.x[-1]
        stuck = False
        for i, claim in enumerate(claims):
            if i not in done and claim.floor + claim.weight * level >= claim.ceiling - 1e-7:
                done[i], stuck = float(claim.ceiling), True
        if not stuck:  # the amount is used up
            for i, claim in enumerate(claims):
                done.setdefault(i, claim.floor + claim.weight * level)
    return np.array([done[i] for i in range(count)])
