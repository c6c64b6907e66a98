"""The tree of queues as a table: what a bar and a quantity stand for."""

from typing import Any

import pytest

from client.queue_view import bar, booking_table, quantity_text, queue_standing, queue_table


def queue(name: str = "q", *, depth: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "parent": None,
        "depth": depth,
        "implicit": False,
        "weight": 1,
        "guaranteed": {},
        "limit": {},
        "min_runtime_seconds": None,
        "comment": "",
        "in_use": {},
        "running": 0,
        "pending": 0,
        "entitlement": {},
        "borrowed": {},
        "usage_gpu_hours": 0.0,
        **more,
    }


def of(in_use: int, entitlement: int | None = None, guaranteed: int | None = None) -> str:
    """The bar of ten cells for ten GPUs."""
    shares = {"entitlement": entitlement, "guaranteed": guaranteed}
    given = {word: {"g": value} for word, value in shares.items() if value is not None}
    return bar(queue(in_use={"g": in_use}, **given), "g", scale=10, width=10)


@pytest.mark.parametrize(
    ("shares", "drawn"),
    [
        ((4, 6, 2), "##|##--...."),
        ((8, 5, 5), "#####|+++.."),
        ((4, None, None), "####......"),
        ((0, 10, 10), "----------|"),
        ((0, 0, 0), ".........."),
        ((10, 0, None), "++++++++++"),
    ],
)
def test_a_bar_shows_what_is_held_borrowed_free_and_guaranteed(
    shares: tuple[int, int | None, int | None], drawn: str
) -> None:
    assert of(*shares) == drawn


def test_no_bar_where_nothing_is_held_or_due() -> None:
    table = queue_table([queue()], dimension="gpu_milli", wide=True)
    assert table.rows[0][table.columns.index("SHARE")] == ""


def test_the_tree_is_indented_and_what_nobody_created_says_so() -> None:
    queues = [queue("ml"), queue("nlp", depth=1), queue("deep", depth=2), queue("x", implicit=True)]
    names = [row[0] for row in queue_table(queues, dimension="gpus", wide=False).rows]
    assert names == ["ml", "└ nlp", "  └ deep", "x (implicit)"]


@pytest.mark.parametrize(
    ("dimension", "quantity", "text"),
    [
        ("gpu_milli", 1500, "1.5"),
        ("gpu_milli:H100", 8000, "8"),
        ("memory_mib", 65536, "64.0 GiB"),
        ("gpus", 3, "3"),
        ("cpu_milli", None, "-"),
    ],
)
def test_quantities_are_in_the_words_of_their_dimension(
    dimension: str, quantity: int | None, text: str
) -> None:
    assert quantity_text(dimension, quantity) == text


def test_one_queue_shows_each_dimension_that_says_something() -> None:
    one = queue(in_use={"gpu_milli": 1000, "disk_mib": 0}, limit={"gpu_milli:H100 SXM": 2000})
    assert queue_standing(one).rows == (
        ("GPUs", "1", "-", "-", "-", "-"),
        ("GPUs, H100 SXM", "-", "-", "-", "-", "2"),
    )


def test_a_booking_without_a_queue_is_maintenance_and_many_nodes_are_counted() -> None:
    booking = {
        "id": "b-1",
        "name": "disk",
        "state": "active",
        "nodes": [f"n{i}" for i in range(6)],
        "queue": None,
        "starts_at": "2026-01-01T00:00:00Z",
        "ends_at": "2026-01-01T01:00:00Z",
        "reason": "",
        "created_at": "2026-01-01T00:00:00Z",
    }
    [row] = booking_table([booking], wide=False).rows
    assert (row[2], row[5], row[6]) == ("maintenance", "n0, n1, n2, n3 and 2 more", "-")
