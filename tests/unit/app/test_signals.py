import asyncio

from app.signals import Seen, Signals, wait


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


def test_what_was_seen_holds_until_news_come_or_it_is_old() -> None:
    signals = Signals()
    seen = Seen(believed_seconds=10)
    ticket = signals.ticket("node:1")
    assert seen.still(1, ticket, 0) is None, "nobody has looked"
    seen.note(1, ticket, 7, 0)
    assert seen.still(1, signals.ticket("node:1"), 10) == 7
    assert seen.still(1, signals.ticket("node:1"), 11) is None
    signals.notify("node:1")
    assert seen.still(1, signals.ticket("node:1"), 1) is None
