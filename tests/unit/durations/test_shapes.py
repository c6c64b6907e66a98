"""What makes two tasks alike."""

from typing import Any

import pytest

from app.durations.shapes import NUMBERS_MAX, WORD_LENGTH_MAX, Shape, blurred, shape_of
from protocol.task import TaskSpec


def shape(command: str, **spec: Any) -> Shape:
    return shape_of(TaskSpec.model_validate({"argv": command.split(), **spec}, strict=False))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("python t.py --out /runs/0012", "python t.py --out /runs/7"),
        ("python t.py --out /runs/2026-11-22T10:30", "python t.py --out /runs/2025-01-02T03:04"),
        ("python t.py --run deadbeef01", "python t.py --run 0badcafe99ff"),
        ("python t.py --epochs 10", "python t.py --epochs=10"),
        ("python3.11 t.py", "/usr/bin/python3 t.py"),
    ],
)
def test_runs_that_differ_in_digits_dates_or_hashes_alone_are_of_one_variant(
    one: str, other: str
) -> None:
    assert shape(one).variant == shape(other).variant


@pytest.mark.parametrize(
    ("one", "other", "first_alike"),
    [
        ("python t.py --epochs 10", "python t.py --epochs 20", 1),
        ("python t.py --data a", "python t.py --data b", 2),
        ("python t.py --data a", "python t.py --data a --amp", 3),
        ("python t.py", "python u.py", 4),
    ],
)
def test_the_first_level_at_which_two_commands_are_alike(
    one: str, other: str, first_alike: int
) -> None:
    alike = [a == b for a, b in zip(shape(one).keys, shape(other).keys, strict=True)]
    assert alike.index(True) == first_alike
    assert all(alike[first_alike:])


def test_size_models_and_queue_part_runs_of_one_command() -> None:
    one = shape("python t.py", request={"gpus": 1})
    assert shape("python t.py", request={"gpus": 2}).exact != one.exact
    assert shape("python t.py", request={"gpus": 2}).variant == one.variant
    assert shape("python t.py", request={"gpus": 1}, gpu_models=["H100"]).variant != one.variant
    other = shape("python t.py", request={"gpus": 1}, queue="other")
    assert (other.variant != one.variant, other.command == one.command) == (True, True)


def test_numbers_are_kept_as_logarithms_and_only_positive_ones() -> None:
    found = dict(shape("python t.py --epochs 1 --lr=1e0 --seed 0 --margin -3 trainer.k=1").numbers)
    assert found == {"--epochs": 0.0, "--lr": 0.0, "trainer.k": 0.0, "replicas": 0.0}


def test_a_shell_is_looked_through_to_its_command() -> None:
    inner = shape_of(TaskSpec(argv=("bash", "-c", "python t.py --epochs 3")))
    assert inner.script == shape("python t.py").script
    assert dict(inner.numbers).keys() == {"--epochs", "replicas"}
    unclosed = shape_of(TaskSpec(argv=("bash", "-c", "python 't.py")))
    assert unclosed.script != inner.script


def test_a_module_is_a_script_too() -> None:
    assert shape("python -m pkg.train --x 1").script != shape("python -m pkg.test --x 1").script


def test_the_longest_command_line_has_a_small_shape() -> None:
    words = tuple(f"--o{'abcdefghij'[at % 10]}{at}={at}" * 100 for at in range(1024))
    numbers = tuple(f"{'x' * at}=1" for at in range(1, 200))
    for argv in (words, ("p", *numbers), ("9" * 32_768,) * 1024):
        found = shape_of(TaskSpec(argv=argv))
        assert len(found.numbers) <= NUMBERS_MAX
        assert all(len(name) <= WORD_LENGTH_MAX for name, _ in found.numbers)
        assert all(len(key) == 16 for key in found.keys[:4])


def test_blurring_leaves_words_alone() -> None:
    assert blurred("/data/imagenet/train") == "/data/imagenet/train"
    assert blurred("facade") == "facade"
    assert blurred("decade-2024.05.06") == "decade-#"
