"""The compose files and the image: read by docker-compose where there is one, by us anywhere."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic_settings import BaseSettings

from agent.settings import AgentSettings
from app.settings import Settings

ROOT = Path(__file__).parents[2]
BASE = ROOT / "docker-compose.yml"
GPU = ROOT / "docker-compose.gpu.yml"
SECRETS = {
    "POSTGRES_PASSWORD": "postgres-secret",
    "STOWPLAN_USER_TOKEN": "user-secret",
    "STOWPLAN_JOIN_TOKEN": "join-secret",
}
COMPOSE = shutil.which("docker-compose")

needs_compose = pytest.mark.skipif(
    COMPOSE is None,
    reason="docker-compose is not installed: the files are only checked as YAML",
)


def compose_config(
    *files: Path, environment: dict[str, str], folder: Path
) -> subprocess.CompletedProcess[str]:
    """What `docker-compose config` makes of ``files``, away from any .env of the developer's."""
    assert COMPOSE is not None
    chosen = [f"--file={file}" for file in files]
    return subprocess.run(
        [COMPOSE, *chosen, f"--project-directory={folder}", "config"],
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def base() -> dict[str, Any]:
    return yaml.safe_load(BASE.read_text())


@needs_compose
def test_docker_compose_accepts_the_file_and_fills_in_the_secrets(tmp_path: Path) -> None:
    result = compose_config(BASE, environment=SECRETS, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    services = yaml.safe_load(result.stdout)["services"]
    assert set(services) == {"postgres", "server", "agent"}
    environment = services["server"]["environment"]
    assert environment["STOWPLAN_DATABASE_URL"] == (
        "postgresql+psycopg://stowplan:postgres-secret@postgres:5432/stowplan"
    )
    assert environment["STOWPLAN_USER_TOKEN"] == "user-secret"
    assert services["agent"]["environment"]["STOWPLAN_AGENT_JOIN_TOKEN"] == "join-secret"
    assert "user-secret" not in services["agent"]["environment"].values()


@needs_compose
def test_without_secrets_the_file_is_valid_and_holds_none(tmp_path: Path) -> None:
    result = compose_config(BASE, environment={}, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    services = yaml.safe_load(result.stdout)["services"]
    # PostgreSQL refuses to start without a password; the service reads "" as "make your own".
    assert services["postgres"]["environment"]["POSTGRES_PASSWORD"] == ""
    assert services["server"]["environment"]["STOWPLAN_USER_TOKEN"] == ""
    assert services["agent"]["environment"]["STOWPLAN_AGENT_JOIN_TOKEN"] == ""


@needs_compose
def test_docker_compose_reserves_the_gpus_with_the_second_file(tmp_path: Path) -> None:
    result = compose_config(BASE, GPU, environment=SECRETS, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    agent = yaml.safe_load(result.stdout)["services"]["agent"]
    assert agent["pid"] == "host"
    assert agent["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]
    assert agent["command"] == ["agent"], "the second file adds to the first"


def test_each_service_waits_until_the_one_it_needs_is_healthy(base: dict[str, Any]) -> None:
    services = base["services"]
    assert services["server"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert services["agent"]["depends_on"] == {"server": {"condition": "service_healthy"}}
    assert services["postgres"]["healthcheck"]["test"][1] == "pg_isready"
    assert "/healthz" in services["server"]["healthcheck"]["test"][-1]


def test_server_and_agent_are_one_image_with_two_commands(base: dict[str, Any]) -> None:
    server, agent = base["services"]["server"], base["services"]["agent"]
    assert (server["image"], server["build"]) == (agent["image"], agent["build"])
    assert (server["command"], agent["command"]) == (["serve"], ["agent"])


def test_each_services_state_is_on_a_volume(base: dict[str, Any]) -> None:
    mounted = {
        name: volume.split(":")[0]
        for name, service in base["services"].items()
        for volume in service["volumes"]
    }
    assert mounted == {name: name for name in base["services"]}
    assert set(base["volumes"]) == set(mounted.values())


def test_files_hold_no_secret_and_the_example_names_each(base: dict[str, Any]) -> None:
    text = BASE.read_text()
    from_outside = set(re.findall(r"\$\{(\w+)-\}", text))
    assert from_outside == set(SECRETS)
    wanted = re.findall(r"^(\w+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert dict(wanted) == dict.fromkeys(SECRETS, "")
    literal = {
        name
        for service in base["services"].values()
        for name, value in service["environment"].items()
        if re.search("TOKEN|PASSWORD", name) and not value.startswith("${")
    }
    assert literal == set()


@pytest.mark.parametrize(("service", "settings"), [("server", Settings), ("agent", AgentSettings)])
def test_every_variable_is_one_that_the_settings_read(
    base: dict[str, Any], service: str, settings: type[BaseSettings]
) -> None:
    prefix = settings.model_config.get("env_prefix", "")
    known = {f"{prefix}{field}".upper() for field in settings.model_fields}
    assert set(base["services"][service]["environment"]) <= known


def test_published_port_stays_on_this_machine_unless_told(base: dict[str, Any]) -> None:
    assert base["services"]["server"]["ports"] == ["${STOWPLAN_PUBLISH:-127.0.0.1:8470}:8470"]
    assert "ports" not in base["services"]["postgres"]


def test_image_holds_every_package_of_the_wheel_and_runs_as_a_plain_user() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    copied = set(re.findall(r"^COPY (\w+) \1$", dockerfile, re.MULTILINE))
    assert copied == {*wheel["packages"], *wheel["shared-data"]}
    # The user that is in force at the end is the one that the container runs as.
    users = re.findall(r"^USER (.+)$", dockerfile.split("FROM")[-1], re.MULTILINE)
    assert users == ["stowplan"]
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {f"!{name}" for name in copied} <= set(ignored)
    assert "*" in ignored


def test_image_names_no_registry() -> None:
    for file in (ROOT / "Dockerfile", BASE, GPU):
        text = file.read_text()
        images = re.findall(r"^(?:FROM|\s*image:) (\S+)", text, re.MULTILINE)
        assert all("/" not in image for image in images), file
        assert not re.search(r"index-url|trusted-host|pypi", text), file
