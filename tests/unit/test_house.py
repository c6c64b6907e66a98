"""The rules of the house hold, and the tools that watch them do notice a breach."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES: list[str] = PROJECT["tool"]["importlinter"]["root_packages"]
CONTRACTS: list[str] = [c["name"] for c in PROJECT["tool"]["importlinter"]["contracts"]]

BREACHES = {
    "the solver is pure": ("solver/problem.py", "import time"),
    "compiled code lives in one package": ("solver/arrays.py", "import numba"),
    "telemetry imports nothing of ours": ("telemetry/stats.py", "import protocol"),
    "samples and statistics are values": ("telemetry/samples.py", "import psutil"),
    "the protocol knows samples and pydantic": ("protocol/task.py", "import solver"),
    "the agent speaks the protocol and measures": ("agent/__init__.py", "import app"),
    "a shim is Python and nothing else": ("agent/supervision/watch.py", "import re"),
    "the service never imports torch": ("app/ids.py", "import agent"),
    "inside the service only planning knows": ("app/clock.py", "import ortools"),
    "inside the service, top to bottom": ("app/settings.py", "import app.db"),
    "a feature may use another's service": ("app/nodes/service.py", "import app.tasks.routes"),
    "migrations know the tables": ("migrations/__init__.py", "import app.tasks"),
}
"""The beginning of a contract's name: a file, and the line that breaks the contract there."""


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of our packages and of the contracts, to do harm to."""
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__", "static")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint_imports(house: Path) -> tuple[int, str]:
    """Exit status and output of import-linter over the packages in ``house``."""
    result = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo"],
        cwd=house,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return result.returncode, " ".join((result.stdout + result.stderr).split())


def contract_name(beginning: str) -> str:
    (name,) = [contract for contract in CONTRACTS if contract.startswith(beginning)]
    return name


def test_import_contracts_hold(house: Path) -> None:
    status, output = lint_imports(house)
    assert status == 0, output
    assert output.count(" KEPT") == len(CONTRACTS)


@pytest.mark.parametrize("beginning", BREACHES)
def test_planted_breach_of_a_contract_is_named(house: Path, beginning: str) -> None:
    file, line = BREACHES[beginning]
    with (house / file).open("a") as module:
        module.write(f"\n{line}\n")
    status, output = lint_imports(house)
    assert status == 1, output
    assert f"{contract_name(beginning)} BROKEN" in output


def test_every_contract_has_its_breach() -> None:
    assert {contract_name(beginning) for beginning in BREACHES} == set(CONTRACTS)


def test_every_package_is_in_the_wheel_and_under_the_contracts() -> None:
    packages = sorted(path.parent.name for path in ROOT.glob("*/__init__.py"))
    ours = [name for name in packages if name not in {"tests", "benchmarks"}]
    assert PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ours
    assert ours == PACKAGES
    assert PROJECT["tool"]["basedpyright"]["include"] == ours


def file_sizes(root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "tests" / "file_sizes.py"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )


def test_no_file_is_too_long() -> None:
    result = file_sizes(ROOT)
    assert result.returncode == 0, result.stdout


def test_file_of_601_lines_is_refused_and_one_of_401_is_questioned(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    (tmp_path / "vendor").mkdir()
    for name, lines in {
        "long.py": 601,
        "longish.js": 401,
        "short.py": 400,
        "vendor/library.js": 9000,
        "guide.md": 9000,
    }.items():
        (tmp_path / name).write_text("\n" * lines)
    result = file_sizes(tmp_path)
    assert result.returncode == 1
    assert result.stdout.splitlines() == [
        "long.py: 601 lines, more than 600: split it",
        "longish.js: 401 lines, more than 400: does it hold two things?",
    ]
    (tmp_path / "long.py").unlink()
    assert file_sizes(tmp_path).returncode == 0


def requirement_name(requirement: str) -> str:
    return re.split(r"[\[<>=~! ;]", requirement)[0].lower()


def bare_dependencies() -> set[str]:
    return {requirement_name(requirement) for requirement in PROJECT["project"]["dependencies"]}


def all_dependencies() -> set[str]:
    extras = PROJECT["project"]["optional-dependencies"].values()
    return bare_dependencies() | {requirement_name(r) for extra in extras for r in extra}


def locked_versions() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pinned = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {name.lower(): version for name, version in pinned}


def test_bare_install_has_no_server_solver_or_torch() -> None:
    heavy = {"fastapi", "uvicorn", "sqlalchemy", "ortools", "highspy", "scipy", "numpy", "torch"}
    assert bare_dependencies() & heavy == set()


def test_lock_pins_every_dependency_to_a_release() -> None:
    versions = locked_versions()
    assert all_dependencies() <= set(versions)
    # A local label (+cpu) is no release: no registry but one would have it.
    assert {n: v for n, v in versions.items() if not re.fullmatch(r"[0-9][0-9A-Za-z.]*", v)} == {}


def test_lock_names_no_registry_and_no_path() -> None:
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        assert not re.search(r"://|--|/|\\|@", line), line


def test_every_dependency_has_its_reason() -> None:
    reasons = (ROOT / "docs" / "decisions" / "dependencies.md").read_text()
    named = set(re.findall(r"^\| `([\w.-]+)", reasons, re.MULTILINE))
    assert named == all_dependencies()


def test_every_decision_is_in_the_index() -> None:
    folder = ROOT / "docs" / "decisions"
    index = (folder / "README.md").read_text()
    linked = set(re.findall(r"\]\(([\w-]+\.md)\)", index))
    assert linked == {path.name for path in folder.glob("*.md")} - {"README.md"}
