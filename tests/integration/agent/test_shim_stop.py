"""How a shim stops programs that save their work, that don't, and that won't end."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.processes import boot_id
from protocol.desired import StopCause
from tests.shim_bench import KEY, Bench, sh, shim_bench
from tests.waiting import wait_for

NEVER = 600.0
A_MOMENT = 0.05

ANSWERS = """
until [ -e $STOWPLAN_CONTROL/checkpoint.asked ]; do sleep 0.01; done
touch $STOWPLAN_CONTROL/checkpoint.acknowledged
echo saving; until [ -e $STOWPLAN_CONTROL/go ]; do sleep 0.01; done
echo saved; touch $STOWPLAN_CONTROL/checkpoint.done
while :; do sleep 0.01; done
"""
HOLDS_OUT = "trap 'echo term' TERM; echo up; while :; do sleep 0.02; done"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with shim_bench(tmp_path) as bench:
        yield bench


def sequence(
    grace: float = NEVER, ask: str | None = "file", ack: float = NEVER, drain: float = 0.0
) -> dict[str, object]:
    checkpoint = None if ask is None else {"ask": ask, "ack_seconds": ack}
    return {"grace_seconds": grace, "drain_seconds": drain, "checkpoint": checkpoint}


def test_a_program_that_is_asked_by_file_saves_and_is_then_told_to_end(bench: Bench) -> None:
    script = f"trap 'echo term; exit 0' TERM; echo up; {ANSWERS}"
    child = bench.start(*sh(script), stop=sequence())
    bench.order(child, NEVER)
    bench.wait_for_output("saving")
    (bench.control / "go").touch()
    form = bench.end(child)
    assert (form["code"], form["stopped"]) == (0, True)
    assert (form["cause"], form["checkpoint"]) == ("preempted", "saved")
    assert bench.output().split() == ["up", "saving", "saved", "term"]


@pytest.mark.parametrize("ask", ["SIGUSR1", "SIGUSR2"])
def test_a_signal_that_asks_reaches_the_main_process_only(bench: Bench, ask: str) -> None:
    name = ask.removeprefix("SIG")
    worker = f"(trap 'echo worker asked' {name}; while :; do sleep 0.02; done) &"
    done = "touch $STOWPLAN_CONTROL/checkpoint.done"
    script = f"{worker} trap 'echo asked; {done}' {name}; trap 'exit 6' TERM; echo up; {{}}"
    child = bench.start(*sh(script.format("while :; do sleep 0.02; done")), stop=sequence(ask=ask))
    bench.order(child, NEVER)
    form = bench.end(child)
    assert (form["code"], form["checkpoint"]) == (6, "saved")
    assert bench.output().split() == ["up", "asked"]


def test_one_who_was_asked_by_sigterm_gets_no_second_one(bench: Bench) -> None:
    done = "touch $STOWPLAN_CONTROL/checkpoint.done"
    script = f"trap 'echo term' TERM; echo up; until grep -q term {bench.directory}/output.log"
    script += f"; do sleep 0.01; done; {done}; sleep 0.3; exit 4"
    child = bench.start(*sh(script), stop=sequence(ask="SIGTERM"))
    bench.order(child, NEVER)
    form = bench.end(child)
    assert (form["code"], form["checkpoint"]) == (4, "saved")
    assert bench.output().split() == ["up", "term"]


def test_a_checkpoint_that_was_never_begun_is_unsaved(bench: Bench) -> None:
    child = bench.start(*sh(HOLDS_OUT), stop=sequence(grace=A_MOMENT, ack=A_MOMENT))
    bench.order(child, NEVER)
    form = bench.end(child)
    assert (form["signal"], form["checkpoint"]) == (signal.SIGKILL, "unsaved")
    assert "term" in bench.output()


def test_a_checkpoint_that_is_acknowledged_but_not_done_is_unsaved(bench: Bench) -> None:
    script = f"trap 'echo term; exit 0' TERM; echo up; {ANSWERS}"
    child = bench.start(*sh(script), stop=sequence(grace=A_MOMENT))
    bench.order(child, NEVER)
    form = bench.end(child)
    assert (form["code"], form["checkpoint"]) == (0, "unsaved")


def test_a_checkpoint_of_before_the_stop_is_not_taken_for_one_of_it(bench: Bench) -> None:
    before = "touch $STOWPLAN_CONTROL/checkpoint.acknowledged $STOWPLAN_CONTROL/checkpoint.done;"
    child = bench.start(*sh(before + HOLDS_OUT), stop=sequence(grace=A_MOMENT, ack=A_MOMENT))
    bench.order(child, NEVER)
    assert bench.end(child)["checkpoint"] == "unsaved"


def test_the_question_follows_no_link_that_the_program_laid(bench: Bench, tmp_path: Path) -> None:
    target = tmp_path / "somebody-elses"
    lay = f"ln -s {target} $STOWPLAN_CONTROL/checkpoint.asked;"
    child = bench.start(*sh(lay + HOLDS_OUT), stop=sequence(grace=A_MOMENT, ack=A_MOMENT))
    bench.order(child, NEVER)
    bench.end(child)
    assert not target.exists()


def test_a_kill_order_ends_a_drain_without_a_word_to_the_program(bench: Bench) -> None:
    child = bench.start(*sh(HOLDS_OUT), stop=sequence(ask=None, drain=NEVER))
    bench.order(child, NEVER)
    bench.order(child, 0, StopCause.CANCELLED)
    form = bench.end(child)
    assert (form["signal"], form["cause"], form["checkpoint"]) == (9, "preempted", None)
    assert "term" not in bench.output()


def test_a_kill_order_ends_a_checkpoint(bench: Bench) -> None:
    child = bench.start(*sh(f"echo up; {ANSWERS}"), stop=sequence())
    bench.order(child, NEVER)
    bench.wait_for_output("saving")
    bench.order(child, 0)
    form = bench.end(child)
    assert (form["signal"], form["checkpoint"]) == (9, "unsaved")


def test_a_stop_that_is_ordered_again_and_again_is_one_stop(bench: Bench) -> None:
    script = f"trap 'echo term; exit 0' TERM; echo up; {ANSWERS}"
    child = bench.start(*sh(script), stop=sequence())
    for seconds in (600.0, 500.0, 550.0, 400.0):
        bench.order(child, seconds)
    bench.wait_for_output("saving")
    bench.order(child, NEVER)
    (bench.control / "go").touch()
    assert bench.end(child)["checkpoint"] == "saved"
    assert bench.output().split() == ["up", "saving", "saved", "term"]


def over(tmp_path: Path, until_seconds: float = 1.0) -> Path:
    lease = tmp_path / "lease.json"
    lease.write_text(json.dumps({"boot_id": boot_id(), "until_seconds": until_seconds}))
    return lease


def test_an_expired_lease_is_a_stop_with_its_checkpoint_and_without_its_drain(
    bench: Bench, tmp_path: Path
) -> None:
    script = f"trap 'echo term; exit 0' TERM; echo up; {ANSWERS}"
    lease = tmp_path / "lease.json"
    child = bench.start(*sh(script), stop=sequence(drain=NEVER), lease=str(lease))
    over(tmp_path)
    # It would look by itself, half a minute after the last time.
    os.kill(child.pid, signal.SIGCHLD)
    bench.wait_for_output("saving")
    (bench.control / "go").touch()
    form = bench.end(child)
    assert (form["cause"], form["checkpoint"]) == ("lease", "saved")
    assert bench.spool.stop_order(KEY) is not None


def test_what_is_to_be_kept_heeds_no_lease(bench: Bench, tmp_path: Path) -> None:
    form = bench.run(*sh("exit 5"), on_lease_lost="keep", lease=str(over(tmp_path)))
    assert (form["code"], form["stopped"], form["cause"]) == (5, False, None)


def test_a_program_that_the_machine_ended_with_its_shim_was_stopped_by_it(bench: Bench) -> None:
    child = bench.start(*sh("echo up; exec sleep 600"))
    running = bench.spool.running(KEY)
    assert running is not None
    # The shim is held so that both signals are there when it wakes.
    child.send_signal(signal.SIGSTOP)
    child.send_signal(signal.SIGTERM)
    os.kill(running.main.pid, signal.SIGTERM)
    stat = Path(f"/proc/{running.main.pid}/stat")
    wait_for(lambda: ") Z " in stat.read_text(), "the program is dead")
    child.send_signal(signal.SIGCONT)
    form = bench.end(child)
    assert (form["signal"], form["stopped"], form["cause"]) == (15, True, "left")


@pytest.mark.parametrize(
    "script",
    [
        "trap '' TERM; echo up; while :; do sleep 1; done",
        "trap '' TERM; setsid setsid sleep 600 & echo up; sleep 600",
        "(setsid sh -c '(setsid sleep 600 &) ; sleep 600' &) ; trap '' TERM; echo up; sleep 600",
        # Each makes another and goes, without end, in sessions of their own: a moving target.
        'run() { (setsid sh -c "$1" sh "$1" &); }; trap \'\' TERM; echo up; '
        'run \'sleep 0.01; (setsid sh -c "$1" sh "$1" &)\'; while :; do sleep 1; done',
    ],
    ids=["ignores TERM", "leaves its session", "forks twice", "flees"],
)
def test_nothing_is_left_of_a_program_that_will_not_go(bench: Bench, script: str) -> None:
    child = bench.start(*sh(script), stop=sequence(grace=A_MOMENT, ask=None))
    bench.order(child, A_MOMENT)
    assert bench.end(child)["signal"] == signal.SIGKILL
    assert bench.alive() == []
