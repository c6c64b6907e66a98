"""What tasks print, with a real agent: bounded on disk, shipped in time, told apart by rank."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.processes import kill_marked
from agent.runtime import MARK
from protocol.desired import DesiredAllocation, Gang, Launch, Phase
from protocol.ranks import of_rank
from protocol.report import Report, ReportAck
from tests.agent_node import Node, leave
from tests.agent_service import AgentService
from tests.waiting import wait_for

MIB = 1 << 20
TORCHRUN = str(Path(sys.executable).with_name("torchrun"))

FLOOD = """\
import os, sys
block = (b"x" * 99 + b"\\n") * 10_000
for _ in range({mib}):
    os.write(1, block)
print("the end", flush=True)
{then}
"""

RANKS = """\
import os, sys, time
rank = os.environ["RANK"]
for number in range(50):
    print(f"line {number} of {rank}", flush=True)
if rank == "1":
    raise ValueError("rank one has had enough")
time.sleep(60)
"""

# Rank 0 says it again and again: what it says during the flood may be among what is skipped.
RANK_FLOOD = """\
import os, time
if os.environ["RANK"] == "1":
    block = (b"y" * 99 + b"\\n") * 10_000
    for _ in range(100):
        os.write(1, block)
while True:
    print("done", os.environ["RANK"], flush=True)
    time.sleep(0.2)
"""


@pytest.fixture
def node(service: AgentService, tmp_path: Path) -> Iterator[Node]:
    node = Node(service, tmp_path)
    yield node
    assert end(node) == [], node.log.read_text()


def end(node: Node) -> list[int]:
    """What its agents had left behind; it's gone now."""
    node.end()
    left = node.alive()
    for attempt in node.attempts():
        while kill_marked(MARK, str(attempt)):
            pass
    return left


def wanted(
    *argv: str, name: str = "a", devices: tuple[str, ...] = (), env: dict[str, str] | None = None
) -> DesiredAllocation:
    return DesiredAllocation(
        id=name,
        task="t1",
        task_name="train",
        generation=1,
        phase=Phase.RUN,
        launch=Launch(argv=argv, env=env or {}, grace_seconds=1.0),
        gang=Gang(rank=0, size=1, master_address="127.0.0.1"),
        devices=devices,
    )


def python(script: str, *, name: str = "a") -> DesiredAllocation:
    return wanted(sys.executable, "-c", script, name=name)


def note(service: AgentService, allocation: str) -> str:
    last = service.last(allocation)
    return last.note if last is not None else ""


def on_disk(folder: Path) -> int:
    return sum(
        path.stat().st_blocks * 512
        for path in folder.rglob("*")
        if path.name == "output.log" or "ranks" in path.parts
    )


def test_a_flood_leaves_its_end_within_the_bound_and_others_are_served(
    service: AgentService, node: Node
) -> None:
    agent = node.start(log_disk_mib=16)
    flood = FLOOD.format(mib=100, then="import time; time.sleep(600)")
    quiet = "import time\nfor n in range(200): print('beat', n, flush=True); time.sleep(0.05)"
    service.desire(python(flood), python(quiet, name="b"))
    end = ("a", 1)
    service.wait(lambda: service.output.get(end, b"").endswith(b"the end\n"), "the flood's end")
    assert service.output_end[end] == 100 * 1_000_000 + 8
    assert len(service.output[end]) + sum(map(len, service.skipped[end])) == 100_000_008
    assert service.output[end].count(b"\n") * 100 >= len(service.output[end]) - 200, "whole lines"
    [attempt] = [path for path in node.attempts() if path.parent.name == "a"]
    wait_for(lambda: on_disk(attempt) <= 16 * MIB, "the flood takes no more than its room")
    assert (attempt / "output.log").stat().st_size == 100_000_008
    service.wait_for_exit("b")
    assert service.text("b") == "".join(f"beat {number}\n" for number in range(200))
    service.desire()
    service.wait_for_exit("a")
    assert leave(agent) == 0


def test_the_last_of_a_flood_is_there_before_its_exit(service: AgentService, node: Node) -> None:
    agent = node.start(log_disk_mib=16)
    told: list[bytes] = []
    original = service.report

    def report(form: Report) -> ReportAck:
        if any(one.exit is not None for one in form.allocations):
            told.append(service.output["a", 1][-(64 << 10) :])
        return original(form)

    service.report = report
    service.desire(python(FLOOD.format(mib=50, then="raise SystemExit(3)")))
    how = service.wait_for_exit("a")
    assert how.reason == "exited with code 3; its last line: the end"
    expected = ((b"x" * 99 + b"\n") * 1000 + b"the end\n")[-(64 << 10) :]
    assert told[0] == expected
    assert leave(agent) == 0


def test_an_agent_restarted_in_a_flood_goes_on_where_the_service_is(
    service: AgentService, node: Node
) -> None:
    agent = node.start(log_disk_mib=16, log_kib_per_second=1024)
    service.desire(python(FLOOD.format(mib=60, then="import time; time.sleep(600)")))
    service.wait(lambda: service.output_end.get(("a", 1), 0) > MIB, "some of it has come")
    agent.send_signal(signal.SIGKILL)
    agent.wait()
    agent = node.start(log_disk_mib=16)
    key = ("a", 1)
    service.wait(lambda: service.output.get(key, b"").endswith(b"the end\n"), "the flood's end")
    assert len(service.output[key]) + sum(map(len, service.skipped[key])) == 60_000_008
    [attempt] = node.attempts()
    wait_for(lambda: on_disk(attempt) <= 16 * MIB, "the new agent bounds what the old one left")
    service.desire()
    service.wait_for_exit("a")
    assert leave(agent) == 0


def test_while_the_service_is_away_a_flood_stays_within_its_room(
    service: AgentService, node: Node
) -> None:
    agent = node.start(log_disk_mib=8)
    service.desire(python(FLOOD.format(mib=60, then="import time; time.sleep(600)")))
    service.wait(lambda: ("a", 1) in service.output, "it runs")
    with service.changed:
        service.away = True
    [attempt] = node.attempts()
    output = attempt / "output.log"
    wait_for(lambda: output.stat().st_size == 60_000_008, "all is written")
    wait_for(lambda: on_disk(attempt) <= 8 * MIB, "it takes no more than its room")
    with service.changed:
        service.away = False
    key = ("a", 1)
    service.wait(lambda: service.output[key].endswith(b"the end\n"), "the flood's end")
    assert b"\0" not in service.output[key], "a hole is skipped, not sent"
    service.desire()
    service.wait_for_exit("a")
    assert leave(agent) == 0


def test_bytes_of_all_kinds_arrive_as_they_are(service: AgentService, node: Node) -> None:
    agent = node.start()
    script = (
        "import sys; o = sys.stdout.buffer; o.write(bytes(range(256)) * 8);"
        " o.write(b'\\x1b[2J' + b'\\0' * 100_000); o.write(b'z' * 3_000_000); o.flush();"
        " raise SystemExit(2)"
    )
    service.desire(python(script))
    how = service.wait_for_exit("a")
    expected = bytes(range(256)) * 8 + b"\x1b[2J" + b"\0" * 100_000 + b"z" * 3_000_000
    assert service.output["a", 1] == expected
    assert how.reason == "exited with code 2; its last line: " + "z" * 300
    assert leave(agent) == 0


def test_an_output_that_can_not_be_read_is_told_and_hinders_nothing(
    service: AgentService, node: Node
) -> None:
    agent = node.start()
    service.desire(python("import time; print('up', flush=True); time.sleep(600)"))
    service.wait(lambda: service.text("a") == "up\n", "it is up")
    [attempt] = node.attempts()
    (attempt / "output.log").unlink()
    (attempt / "output.log").mkdir()
    service.wait(lambda: "can't be read: Is a directory" in note(service, "a"), "a note")
    service.desire(python("print('well')", name="b"))
    service.wait_for_exit("b")
    service.wait_for_exit("a")
    assert service.text("b") == "well\n"
    wait_for(lambda: node.attempts() == [], "both are forgotten")
    assert leave(agent) == 0


def mounted(kind: str, folder: Path, *options: str) -> bool:
    folder.mkdir()
    command = ["mount", "-t", kind, *options, kind, str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_where_no_hole_can_be_made_the_output_is_cut_and_its_offsets_go_on(
    service: AgentService, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    if not mounted("ramfs", disk):
        pytest.skip("mounting a ramfs isn't permitted here")
    node = Node(service, disk)
    try:
        agent = node.start(log_disk_mib=4)
        script = (
            "import os, time\nblock = (b'x' * 99 + b'\\n') * 1_000\n"
            "for _ in range(200): os.write(1, block); time.sleep(0.01)\n"
            "print('the end', flush=True); time.sleep(600)"
        )
        service.desire(python(script))
        key = ("a", 1)
        service.wait(lambda: service.text("a").endswith("the end\n"), "the end")
        assert service.output_end[key] <= 20_000_008
        assert service.output_end[key] == len(service.output[key]) + sum(
            map(len, service.skipped.get(key, []))
        )
        service.wait(lambda: "can't make holes" in note(service, "a"), "a note")
        [attempt] = node.attempts()
        assert (attempt / "output.log").stat().st_size <= 4 * MIB
        agent.send_signal(signal.SIGKILL)
        agent.wait()
        with (attempt / "output.log").open("ab") as file:
            file.write(b"and more\n")
        agent = node.start(log_disk_mib=4)
        service.wait(lambda: service.text("a").endswith("and more\n"), "what came after")
        service.desire()
        service.wait_for_exit("a")
        assert leave(agent) == 0
    finally:
        end(node)
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_on_a_full_disk_the_agent_lives_and_the_task_is_told_why(
    service: AgentService, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    if not mounted("tmpfs", disk, "-o", "size=32m"):
        pytest.skip("mounting a tmpfs isn't permitted here")
    node = Node(service, disk)
    node.log = tmp_path / "n1.log"
    try:
        agent = node.start()
        fill = (
            "import os, time\nprint('begun', flush=True)\nfile = open('fill', 'wb', buffering=0)\n"
            "try:\n    while True: file.write(b'x' * 4096)\nexcept OSError: pass\n"
            "time.sleep(2)\nprint('y' * 100_000, flush=True)\n"
        )
        service.desire(python(fill))
        how = service.wait_for_exit("a")
        assert (how.code, "the disk of this node is full" in how.reason) == (1, True), how
        assert any(
            "was full" in one.note for report in service.reports for one in report.allocations
        )
        assert service.text("a").startswith("begun\n")
        assert agent.poll() is None
        assert leave(agent) == 0
    finally:
        end(node)
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_of_a_torchrun_task_each_ranks_lines_are_told_apart_and_its_first_failure_is_found(
    service: AgentService, node: Node, tmp_path: Path
) -> None:
    program = tmp_path / "ranks.py"
    program.write_text(RANKS)
    agent = node.start()
    service.desire(wanted(TORCHRUN, "--nproc-per-node=2", str(program)))
    how = service.wait_for_exit("a")
    printed = service.output["a", 1]
    expected = "".join(f"line {number} of 0\n" for number in range(50))
    assert of_rank(printed, 0).decode() == expected
    # Its standard output and error are passed on each for itself, in whatever order.
    assert expected.replace("of 0", "of 1") in of_rank(printed, 1).decode()
    assert how.reason == "exited with code 1; rank 1: ValueError: rank one has had enough"
    assert how.error.startswith("Traceback (most recent call last):\n")
    assert how.error.endswith("\nValueError: rank one has had enough")
    assert how.failed_at_ms is not None
    assert how.failed_at_ms <= how.at_ms
    assert leave(agent) == 0


def test_a_spec_says_itself_how_torchrun_tells_ranks(
    service: AgentService, node: Node, tmp_path: Path
) -> None:
    program = tmp_path / "ranks.py"
    program.write_text("print('hello')")
    agent = node.start()
    own = tmp_path / "own"
    env = {"TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE": "<${rank}> ", "PET_LOG_DIR": str(own)}
    service.desire(wanted(TORCHRUN, "--nproc-per-node=2", str(program), env=env))
    assert service.wait_for_exit("a").code == 0
    assert "<0> hello" in service.text("a")
    assert list(own.rglob("stdout.log"))
    assert leave(agent) == 0


def test_a_flood_of_one_rank_stays_within_the_bound_and_breaks_nobody(
    service: AgentService, node: Node, tmp_path: Path
) -> None:
    program = tmp_path / "flood.py"
    program.write_text(RANK_FLOOD)
    agent = node.start(log_disk_mib=32)
    script = f"{TORCHRUN} --nproc-per-node=2 {program}; sleep 600"
    service.desire(wanted("sh", "-c", script))
    for rank in (0, 1):
        service.wait(
            lambda rank=rank: (
                f"done {rank}\n".encode() in of_rank(service.output.get(("a", 1), b"")[-MIB:], rank)
            ),
            f"rank {rank} is done",
        )
    [attempt] = node.attempts()
    wait_for(lambda: on_disk(attempt) <= 33 * MIB, "it takes no more than its room")
    service.desire()
    service.wait_for_exit("a")
    assert leave(agent) == 0
