"""A task's torch is told only what it is known to understand; nothing is run to find that out."""

import sys
from pathlib import Path

import pytest

from agent.devices.torch_options import understands_fraction

KNOWS = "static double per_process_memory_fraction();"


def torch_in(site: Path, header: str | None) -> None:
    folder = site / "torch/include/c10/cuda"
    folder.mkdir(parents=True)
    if header is not None:
        (folder / "CUDAAllocatorConfig.h").write_text(header)


def program(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """A virtual environment without a torch."""
    program(tmp_path / "venv/bin/python")
    (tmp_path / "venv/pyvenv.cfg").write_text("home = /usr/bin\n")
    return tmp_path / "venv"


def site(venv: Path) -> Path:
    return venv / "lib/python3.11/site-packages"


@pytest.mark.parametrize(
    ("header", "expected"), [(KNOWS, True), ("// an older one", False), (None, False)]
)
def test_the_headers_of_the_programs_torch_say_it(
    venv: Path, header: str | None, expected: bool
) -> None:
    torch_in(site(venv), header)
    assert understands_fraction(str(venv / "bin/python"), {}) is expected
    assert understands_fraction("python", {"PATH": str(venv / "bin")}) is expected


def test_without_a_torch_nothing_is_understood(venv: Path) -> None:
    assert not understands_fraction(str(venv / "bin/python"), {})


@pytest.mark.parametrize(
    "first",
    ["#!{python}", "#! {python} -u", "#!/usr/bin/env python", "#!/usr/bin/env -S python -u"],
)
def test_a_script_is_run_by_what_its_first_line_says(
    venv: Path, tmp_path: Path, first: str
) -> None:
    torch_in(site(venv), KNOWS)
    line = first.format(python=venv / "bin/python")
    script = program(tmp_path / "other/torchrun", f"{line}\nimport torch\n")
    assert understands_fraction(str(script), {"PATH": str(venv / "bin")})


@pytest.mark.parametrize("text", ["#!/bin/bash\n", "", "#!\n", "#!/usr/bin/env\n", "\x7fELF"])
def test_what_is_not_python_may_start_any(venv: Path, tmp_path: Path, text: str) -> None:
    torch_in(site(venv), KNOWS)
    script = program(tmp_path / "other/train", text)
    assert not understands_fraction(str(script), {"PATH": str(venv / "bin")})


@pytest.mark.parametrize("name", ["./python", "bin/python", "nowhere", "/nowhere/python"])
def test_a_program_that_is_not_to_be_found_is_unknown(venv: Path, name: str) -> None:
    torch_in(site(venv), KNOWS)
    assert not understands_fraction(name, {"PATH": str(venv)})


def test_one_older_torch_that_could_be_meant_is_one_too_many(venv: Path, tmp_path: Path) -> None:
    torch_in(site(venv), KNOWS)
    torch_in(tmp_path / "mine", "// an older one")
    python = str(venv / "bin/python")
    assert understands_fraction(python, {"PYTHONPATH": ""})
    assert not understands_fraction(python, {"PYTHONPATH": str(tmp_path / "mine")})


def test_the_environment_below_counts_where_it_is_looked_in(venv: Path, tmp_path: Path) -> None:
    torch_in(tmp_path / "usr/lib/python3/dist-packages", KNOWS)
    config = venv / "pyvenv.cfg"
    home = f"home = {tmp_path}/usr/bin\n"
    config.write_text(f"{home}include-system-site-packages = false\n")
    assert not understands_fraction(str(venv / "bin/python"), {})
    config.write_text(f"{home}include-system-site-packages = true\n")
    assert understands_fraction(str(venv / "bin/python"), {})


def test_the_torch_that_we_test_with_is_found_and_understands() -> None:
    pytest.importorskip("torch")
    assert understands_fraction(sys.executable, {"HOME": "/nowhere"})
