import asyncio

from app.signals import Signals, wait


async def test_news_between_the_look_and_the_wait_is_not_missed() -> None:
    signals = Signals()
    ticket = signals.ticket("tasks")
    signals.notify("tasks")
    assert await wait(ticket, 0.0)


async def test_news_of_another_topic_wakes_nobody() -> None:
    signals = Signals()
    ticket = signals.ticket("tasks")
    signals.notify("nodes")
    assert not await wait(ticket, 0.0)


async def test_closing_wakes_all_waiters_and_those_who_come_later() -> None:
    signals = Signals()
    waiting = asyncio.create_task(wait(signals.ticket("tasks"), 60))
    await asyncio.sleep(0)
    signals.close()
    assert await waiting
    assert await wait(signals.ticket("tasks"), 0.0)
