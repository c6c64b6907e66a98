"""The benchmarks' verdicts, seen from outside: nothing imports ``benchmarks``, tests neither."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

PLANTED_SUITE = """
import sys
from pathlib import Path
from rich.console import Console
from benchmarks.harness import Case, LeftOut, run_suite

def suite():
    yield Case(case="at its must", value=0.003, unit="gap", better="lower", must=0.003, aim=0.001)
    yield Case(case="below its must", value=9.0, unit="tasks/s", better="higher", must=10.0)
    yield Case(case="only reported", value=1.0, unit="s", better="lower", aim=0.5)
    yield LeftOut(case="no data", reason="BENCH_DATA isn't set")

sys.exit(0 if run_suite("planted", suite, Console(width=130), Path(sys.argv[1])) else 1)
"""


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_suite_that_does_not_exist_is_refused_with_those_that_do() -> None:
    done = python("-m", "benchmarks", "allocation")
    assert done.returncode == 2
    assert "no such suite: allocation (there are: solver, service, telemetry)" in done.stderr


def test_ok_follows_from_value_and_must_and_a_case_left_out_has_no_value(tmp_path: Path) -> None:
    done = python("-c", PLANTED_SUITE, str(tmp_path))
    assert done.returncode == 1, done.stderr
    assert "left out" in done.stdout
    document = json.loads((tmp_path / "planted.json").read_text())
    assert set(document["machine"]) == {"cpu", "cores", "memory_mib", "python", "date"}
    assert document["cases"][0] == {
        "case": "at its must",
        "value": 0.003,
        "unit": "gap",
        "must": 0.003,
        "aim": 0.001,
        "better": "lower",
        "ok": True,
    }
    assert [case["ok"] for case in document["cases"]] == [True, False, None]
    assert document["left_out"] == [{"case": "no data", "reason": "BENCH_DATA isn't set"}]
