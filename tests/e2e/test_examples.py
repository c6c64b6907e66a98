"""The example programs as a user runs them: real processes, a real network, real files."""

import contextlib
import importlib.util
import json
import os
import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Self

import httpx2
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
DEADLINE_SECONDS = 90.0
EPOCHS = 6
OURS = (
    "STOWPLAN_",
    "TORCH",
    "OMP_",
    "MASTER_",
    "RANK",
    "WORLD_SIZE",
    "LOCAL_",
    "HOST",
    "PORT",
    "COV",
)


class Program:
    """An example that runs; its output is read as it comes, so a test can wait for a line of it."""

    def __init__(self, *argv: str | Path, env: Mapping[str, str] | None = None) -> None:
        inherited = {name: v for name, v in os.environ.items() if not name.startswith(OURS)}
        self._process = subprocess.Popen(
            [sys.executable, *map(str, argv)],
            env={**inherited, **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._unread: queue.Queue[str | None] = queue.Queue()
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._unread.put(line.rstrip("\n"))
        self._unread.put(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # torchrun's ranks outlive a killed torchrun; a terminated one takes them along.
        if self._process.poll() is None:
            self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=20)
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def wait_for_line(self, pattern: str) -> re.Match[str]:
        """The next line of output in which ``pattern`` is found."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while (line := self._unread.get(timeout=max(0.0, deadline - time.monotonic()))) is not None:
            self.lines.append(line)
            if (match := re.search(pattern, line)) is not None:
                return match
        pytest.fail(f"ended without {pattern!r}:\n{self.output}")

    def wait(self) -> int:
        """The exit status; all output is in ``lines`` then."""
        status = self._process.wait(timeout=DEADLINE_SECONDS)
        self._reader.join()
        while (line := self._unread.get()) is not None:
            self.lines.append(line)
        return status

    def terminate(self) -> None:
        self._process.send_signal(signal.SIGTERM)


def train(*arguments: str | Path, env: Mapping[str, str] | None = None) -> Program:
    return Program(EXAMPLES / "train_digits.py", *arguments, env=env)


@contextlib.contextmanager
def gang_of_two(*arguments: str | Path) -> Iterator[tuple[Program, Program]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    env = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    with (
        train(*arguments, env={**env, "RANK": "0"}) as leader,
        train(*arguments, env={**env, "RANK": "1"}) as other,
    ):
        yield leader, other


def torchrun(processes: str, *arguments: str | Path, delay_ms: int = 0) -> Program:
    script = (EXAMPLES / "train_digits.py", *arguments, f"--step-delay-ms={delay_ms}")
    return Program("-m", "torch.distributed.run", "--standalone", processes, *script)


def epoch_losses(metrics: Path) -> dict[int, float]:
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    return {row["epoch"]: row["loss"] for row in rows if "epoch" in row}


def fingerprint(program: Program) -> str:
    """The checksum of the weights with which a rank ended."""
    found = re.search(r"^rank \d of \d: weights=(\w+)$", program.output, re.MULTILINE)
    assert found is not None, program.output
    return found[1]


def stopped_after(program: Program) -> str:
    """The epoch and image at which a rank says that it was asked to stop."""
    found = re.search(r"^stopped when asked, after (epoch \d.*): ", program.output, re.MULTILINE)
    assert found is not None, program.output
    return found[1]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Program, Path]]:
    """An undisturbed run of one process, and its folder."""
    folder = tmp_path_factory.mktemp("alone")
    arguments = (f"--epochs={EPOCHS}", "--checkpoint-dir", folder, "--metrics", folder / "metrics")
    with train(*arguments) as program:
        assert program.wait() == 0, program.output
        yield program, folder


@pytest.fixture(scope="module")
def digits() -> ModuleType:
    """The module beside the examples: it knows which images were held out."""
    spec = importlib.util.spec_from_file_location("digits", EXAMPLES / "digits.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_training_lowers_the_loss_and_reads_held_out_digits(alone: tuple[Program, Path]) -> None:
    program, folder = alone
    losses = epoch_losses(folder / "metrics")
    assert list(losses) == list(range(1, EPOCHS + 1))
    summary = re.search(r"^loss first=([\d.]+) last=([\d.]+)$", program.output, re.MULTILINE)
    assert summary is not None
    first, last = map(float, summary.groups())
    assert last < first / 4
    assert (first, last) == pytest.approx((losses[1], losses[EPOCHS]), abs=1e-4)
    accuracy = re.search(r"^accuracy=([\d.]+)$", program.output, re.MULTILINE)
    assert accuracy is not None
    assert float(accuracy[1]) > 0.9


def test_sigterm_to_one_rank_stops_the_whole_gang_at_one_step(tmp_path: Path) -> None:
    arguments = ("--epochs=500", "--checkpoint-dir", tmp_path, "--step-delay-ms=20")
    with gang_of_two(*arguments) as (leader, other):
        leader.wait_for_line(r"^epoch 1/")
        other.terminate()
        assert (leader.wait(), other.wait()) == (0, 0), leader.output + other.output
        assert stopped_after(leader)
        assert "epoch" not in other.output, "only rank 0 tells how far training came"


def test_gang_resumes_what_torchrun_was_told_to_stop_and_trains_as_one_process_does(
    alone: tuple[Program, Path], tmp_path: Path
) -> None:
    arguments = (f"--epochs={EPOCHS}", "--checkpoint-dir", tmp_path)
    arguments += ("--metrics", tmp_path / "metrics")
    with torchrun("--nproc-per-node=2", *arguments, delay_ms=40) as program:
        program.wait_for_line(r"^epoch 1/")
        program.terminate()
        # torchrun calls a stop a failure, whatever its ranks exit with.
        assert program.wait() == 1, program.output
        position = stopped_after(program)

    with gang_of_two(*arguments) as (leader, other):
        assert (leader.wait(), other.wait()) == (0, 0), leader.output + other.output
        assert f"resuming after {position}" in leader.output
        assert "accuracy" not in other.output, "only rank 0 sums up"
        assert fingerprint(leader) == fingerprint(other)

    one, two = epoch_losses(alone[1] / "metrics"), epoch_losses(tmp_path / "metrics")
    # Float sums in another order, and one image repeated to make the count even.
    assert two == pytest.approx(one, abs=0.02)


def test_torchrun_resumes_what_was_stopped_and_ends_with_the_weights_of_an_undisturbed_run(
    alone: tuple[Program, Path], tmp_path: Path
) -> None:
    arguments = (f"--epochs={EPOCHS}", "--checkpoint-dir", tmp_path)
    with train(*arguments, "--step-delay-ms=40") as program:
        program.wait_for_line(r"^epoch 1/")
        program.terminate()
        assert program.wait() == 0, program.output
        position = stopped_after(program)
    with torchrun("--nproc-per-node=1", *arguments) as program:
        assert program.wait() == 0, program.output
        assert f"resuming after {position}" in program.output
        assert "epoch 1/" not in program.output
        assert fingerprint(program) == fingerprint(alone[0])


def test_stale_generation_is_refused_and_leaves_the_newer_checkpoint(tmp_path: Path) -> None:
    older, newer = {"STOWPLAN_GENERATION": "1"}, {"STOWPLAN_GENERATION": "2"}
    arguments = ("--epochs=5000", "--checkpoint-dir", tmp_path, "--step-delay-ms=20")
    with train(*arguments, env=older) as zombie:
        zombie.wait_for_line(r"^epoch 1/")
        with train(*arguments, env=newer) as program:
            program.wait_for_line(r"generation 2: resuming after epoch \d")
            program.wait_for_line(r"^epoch \d+/")
            program.terminate()
            assert program.wait() == 0, program.output
        published = (tmp_path / "latest").read_bytes()
        assert published.startswith(b"g0000000002-")
        assert zombie.wait() == 1
        assert "of generation 1: it is stale and must not write" in zombie.output
        assert "Traceback" not in zombie.output
        assert (tmp_path / "latest").read_bytes() == published
    with train(*arguments, env=older) as program:
        assert program.wait() == 1
        assert "belongs to generation 2" in program.output
        assert "Traceback" not in program.output


def test_text_model_reads_better_after_training_than_before() -> None:
    with Program(EXAMPLES / "train_text.py", "--steps=100") as program:
        assert program.wait() == 0, program.output
    losses = re.search(r"^loss before=([\d.]+) after=([\d.]+)$", program.output, re.MULTILINE)
    assert losses is not None
    before, after = map(float, losses.groups())
    assert after < before * 0.75


@pytest.fixture(scope="module")
def server(
    alone: tuple[Program, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Program, str]]:
    """A server that was started before there was a checkpoint, and its address."""
    folder = tmp_path_factory.mktemp("served")
    arguments = ("--checkpoint-dir", folder, f"--wait={DEADLINE_SECONDS}")
    with Program(EXAMPLES / "serve_digits.py", *arguments, env={"PORT": "0"}) as program:
        program.wait_for_line("waiting up to 90 s for a checkpoint")
        for path in alone[1].glob("*.pt"):
            shutil.copy(path, folder)
        shutil.copy(alone[1] / "latest", folder / ".latest")
        (folder / ".latest").rename(folder / "latest")
        yield program, program.wait_for_line(r"serving on (http://127\.0\.0\.1:\d+)")[1]


def test_server_names_held_out_digits(server: tuple[Program, str], digits: ModuleType) -> None:
    held_out = digits.load_digits()
    body = {"images": held_out.held_out_images.tolist()}
    answer = httpx2.post(f"{server[1]}/predict", json=body, timeout=30).json()
    right = [
        got == wanted
        for got, wanted in zip(answer["labels"], held_out.held_out_labels.tolist(), strict=True)
    ]
    assert sum(right) / len(right) > 0.9
    for label, probabilities in zip(answer["labels"], answer["probabilities"], strict=True):
        assert sum(probabilities) == pytest.approx(1, abs=1e-4)
        assert probabilities[label] == max(probabilities)


def test_server_says_how_far_its_model_was_trained(server: tuple[Program, str]) -> None:
    answer = httpx2.get(f"{server[1]}/healthz").json()
    assert answer == {"status": "ok", "epochs": EPOCHS, "generation": 0}


IMAGE = [0] * 64
BAD_BODIES: dict[str, tuple[bytes, int, str]] = {
    "no JSON": (b"{", 400, "no JSON"),
    "no UTF-8": (b"\xff\xfe", 400, "no JSON"),
    "nested too deeply": (b"[" * 100_000, 400, "nested too deeply"),
    "no object": (b"[]", 422, "and nothing else"),
    "unknown field": (json.dumps({"images": [IMAGE], "x": 1}).encode(), 422, "nothing else"),
    "no image": (b'{"images": []}', 422, "1 to 4096 lists"),
    "short image": (json.dumps({"images": [IMAGE, [1]]}).encode(), 422, "images[1]: has 1 numbers"),
    "image is no list": (b'{"images": [3]}', 422, "images[0]: is no list"),
    "text": (json.dumps({"images": [["a", *IMAGE[1:]]]}).encode(), 422, "images[0][0]: 'a' is no"),
    "truth": (json.dumps({"images": [[True, *IMAGE[1:]]]}).encode(), 422, "'True' is no number"),
    "NaN": (json.dumps({"images": [[float("nan"), *IMAGE[1:]]]}).encode(), 422, "not finite"),
    "negative": (json.dumps({"images": [[-1, *IMAGE[1:]]]}).encode(), 422, "outside 0..16"),
    "huge": (json.dumps({"images": [[10**4000, *IMAGE[1:]]]}).encode(), 422, "outside 0..16"),
    "too long": (b" " * ((1 << 20) + 1), 413, "1048576 are taken"),
    "far too long": (b" " * (8 << 20), 413, "1048576 are taken"),
}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_server_refuses_a_bad_body_with_the_reason(server: tuple[Program, str], name: str) -> None:
    body, status, reason = BAD_BODIES[name]
    answer = httpx2.post(f"{server[1]}/predict", content=body, timeout=30)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert any(reason in fault for fault in answer.json()["faults"]), answer.text


def test_server_names_every_fault_of_a_body(server: tuple[Program, str]) -> None:
    body = {"images": [[17, -1, *IMAGE[2:]], [None, *IMAGE[1:]]]}
    answer = httpx2.post(f"{server[1]}/predict", json=body)
    places = [fault.split(":")[0] for fault in answer.json()["faults"]]
    assert places == ["images[0][0]", "images[0][1]", "images[1][0]"]


def test_server_refuses_other_paths_and_methods(server: tuple[Program, str]) -> None:
    assert httpx2.get(f"{server[1]}/nothing").status_code == 404
    answer = httpx2.get(f"{server[1]}/predict")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert httpx2.put(f"{server[1]}/healthz").status_code == 405


def test_server_refuses_a_body_of_unknown_length(server: tuple[Program, str]) -> None:
    answer = httpx2.post(f"{server[1]}/predict", content=iter([b"{}"]))
    assert answer.status_code == 411


def test_server_answers_what_it_has_taken_before_sigterm_ends_it(
    alone: tuple[Program, Path],
) -> None:
    arguments = ("--checkpoint-dir", alone[1], "--port=0")
    body = json.dumps({"images": [IMAGE]}).encode()
    head = f"POST /predict HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with Program(EXAMPLES / "serve_digits.py", *arguments) as program:
        address = program.wait_for_line(r"serving on (http://127\.0\.0\.1:(\d+))")
        with socket.create_connection(("127.0.0.1", int(address[2])), timeout=30) as client:
            client.sendall(head + body[:10])
            # Connections are taken in turn: once this is answered, the one before it was taken.
            assert httpx2.get(f"{address[1]}/healthz").status_code == 200
            program.terminate()
            client.sendall(body[10:])
            answer = b"".join(iter(lambda: client.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.0 200 ")
        assert program.wait() == 0, program.output
        assert "Traceback" not in program.output


def test_server_without_a_checkpoint_says_what_to_do(tmp_path: Path) -> None:
    with Program(EXAMPLES / "serve_digits.py", "--checkpoint-dir", tmp_path, "--wait=0") as program:
        assert program.wait() == 1
    assert "train first" in program.output
    assert "Traceback" not in program.output
