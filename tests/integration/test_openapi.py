"""The OpenAPI document, and every route under schemathesis: no input makes the service fail."""

import re
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from tests.command import Installation
from tests.service import Service, registration

EXAMPLES_PER_ROUTE = "6"


async def test_the_document_names_every_form_it_refers_to(sqlite_service: Service) -> None:
    answer = await sqlite_service.client(None).get("/openapi.json")
    known = answer.json()["components"]["schemas"]
    used = set(re.findall(r'"#/components/schemas/([^"]+)"', answer.text))
    assert used <= set(known)
    assert {"TaskSpec", "Problem", "Plan", "Report", "Registration"} <= used
    assert known["TaskSpec"]["additionalProperties"] is False
    assert "$defs" not in answer.text


def fuzz(url: str, token: str, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Coverage, fuzzing and stateful phases; only a 5xx is a failure."""
    return subprocess.run(
        [
            Path(sys.executable).parent / "schemathesis",
            "run",
            f"{url}/openapi.json",
            "--header",
            f"Authorization: Bearer {token}",
            "--checks",
            "not_a_server_error",
            "--max-examples",
            EXAMPLES_PER_ROUTE,
            "--seed",
            "7",
            "--max-time",
            "30",
            "--generation-database",
            "none",
            "--warnings",
            "off",
            "--no-color",
            *more,
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
    )


@pytest.mark.parametrize("speaker", ["user", "node"])
def test_no_input_makes_a_route_fail(speaker: str, tmp_path: Path, postgres_database: str) -> None:
    installation = Installation(tmp_path / "stowplan")
    installation.environment["STOWPLAN_DATABASE_URL"] = postgres_database
    # Held requests are no failures, but schemathesis gives up on them after ten seconds.
    installation.environment["STOWPLAN_DESIRED_WAIT_SECONDS_MAX"] = "1"
    try:
        installation.serve()
        url = (installation.home / "server.url").read_text().strip()
        if speaker == "user":
            token = (installation.home / "user.token").read_text().strip()
            only = ("--exclude-path-regex", "^/agent/")
        else:
            join = (installation.home / "join.token").read_text().strip()
            answer = httpx2.post(
                f"{url}/agent/v1/register",
                json=registration("n1", gpus=2),
                headers={"Authorization": f"Bearer {join}"},
            )
            token = answer.json()["token"]
            only = ("--include-path-regex", "^/agent/")
        done = fuzz(url, token, tmp_path, *only)
    finally:
        installation.close()
    assert done.returncode == 0, done.stdout[-4000:]
    generated = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
    assert generated is not None, done.stdout[-4000:]
    assert int(generated[1]) == int(generated[2]) > 200
    assert "request_failed" not in installation.output("service")
