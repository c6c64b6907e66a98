from pathlib import Path

import pytest

from agent.events import Key
from agent.spool import Intent, Spool, StateDirBusyError
from protocol.desired import DesiredAllocation, Gang, Launch, Phase

KEY = Key(id="t1:0", generation=2)


def intent() -> Intent:
    allocation = DesiredAllocation(
        id=KEY.id,
        task="t1",
        task_name="train",
        generation=KEY.generation,
        phase=Phase.RUN,
        devices=("GPU-a",),
        launch=Launch(argv=("true",), env={"A": "1"}, grace_seconds=1.5),
        gang=Gang(rank=0, size=1, master_address="10.0.0.1"),
    )
    return Intent(
        allocation=allocation, port=20_000, argv=("true",), env={"A": "1"}, working_dir="/"
    )


def test_an_intent_reads_back_as_it_was_written(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.keep_intent(KEY, intent())
    assert spool.intent(KEY) == intent()
    assert spool.attempts() == [KEY]
    spool.close()


def test_only_the_owner_may_read_what_is_kept(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "state")
    spool.keep_intent(KEY, intent())
    spool.keep_token("secret")
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    for path in (tmp_path / "state" / "token", spool.directory(KEY) / "intent.json"):
        assert path.stat().st_mode & 0o777 == 0o600
    spool.close()


def test_a_second_agent_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    first = Spool(tmp_path)
    with pytest.raises(StateDirBusyError, match="another agent uses"):
        Spool(tmp_path)
    first.close()
    Spool(tmp_path).close()


def test_a_lease_of_another_boot_is_void(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    assert spool.lease_until("boot-1") is None
    spool.keep_lease("boot-1", 123.5)
    assert spool.lease_until("boot-1") == 123.5
    assert spool.lease_until("boot-2") is None
    spool.close()


def test_forgetting_the_last_attempt_removes_the_allocation(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    older = Key(id=KEY.id, generation=1)
    spool.keep_intent(older, intent())
    spool.keep_intent(KEY, intent())
    spool.forget(older)
    assert spool.attempts() == [KEY]
    spool.forget(KEY)
    assert list((tmp_path / "allocations").iterdir()) == []
    spool.close()
