"""Numbers of series: asked for once, and for many at a time."""

import asyncio
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from app.db.samples.store import SampleStore, Subject
from app.db.samples.tables import Kind, series
from app.metrics.series_ids import SeriesIds


def devices(node: str, *, model: str = "H100") -> list[Subject]:
    keys = [f"{node}-{index}" for index in range(8)]
    return [Subject(kind=Kind.DEVICE, key=key, node=node, model=model) for key in keys]


async def test_many_nodes_that_ask_at_once_get_their_own_numbers(
    tmp_path: Path, database_url: str
) -> None:
    store = SampleStore(database_url)
    await store.open()
    try:
        ids = SeriesIds(store)
        nodes = [devices(f"n{number}") for number in range(50)]
        answers = await asyncio.gather(*(ids.of(node) for node in nodes))
        given = [answer[one] for node, answer in zip(nodes, answers, strict=True) for one in node]
        assert len(set(given)) == 400
        both = [*devices("n1"), *devices("n1", model="H200")]
        changed = await ids.of(both)
        assert [changed[one] for one in both[8:]] == [changed[one] for one in both[:8]]
        anew = await SeriesIds(store).of(nodes[7])
        assert [anew[one] for one in nodes[7]] == given[56:64]
        async with store.read() as session:
            assert await session.scalar(select(func.count()).select_from(series)) == 400
    finally:
        await store.close()


async def test_what_could_not_be_asked_is_asked_again(tmp_path: Path) -> None:
    store = SampleStore(f"sqlite:///{tmp_path / 'no such folder' / 'test.db'}")
    ids = SeriesIds(store)
    failed = await asyncio.gather(*(ids.of(devices("n1")) for _ in "ab"), return_exceptions=True)
    assert all(isinstance(error, SQLAlchemyError) for error in failed)
    (tmp_path / "no such folder").mkdir()
    await store.open()
    try:
        assert len(await ids.of(devices("n2"))) == 16, "and for those of before"
    finally:
        await store.close()
