from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from agent.settings import AgentSettings
from agent.start import local_address


def test_variables_are_read_and_what_is_given_beats_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOWPLAN_AGENT_NAME", "from-variable")
    monkeypatch.setenv("STOWPLAN_AGENT_LABELS", '{"zone": "a"}')
    monkeypatch.setenv("STOWPLAN_AGENT_JOIN_TOKEN", "secret")
    settings = AgentSettings()
    assert (settings.name, settings.labels) == ("from-variable", {"zone": "a"})
    assert settings.join_token == SecretStr("secret")
    assert "secret" not in repr(settings)
    assert AgentSettings(name="given").name == "given"


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "has space"},
        {"server": "not a url"},
        {"simulated_devices": "many"},
        {"address": "host/path"},
        {"sample_interval_seconds": "0"},
        {"sample_interval_seconds": "nan"},
        {"sample_spool_mib": "0"},
        {"labels": {"enforce.memory": "cgroup2"}},
        {"labels": {str(i): "a" for i in range(62)}},
        {"root_tasks": "sometimes"},
        {"cgroup_parent": "no/slash"},
        {"cgroup_parent": "/a/../.."},
        {"cgroup_parent": "/"},
        {"task_account": "x" * 257},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        AgentSettings(**wrong)  # pyright: ignore[reportArgumentType]


def test_each_node_name_has_its_own_state_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert AgentSettings(name="n1").state_directory() == tmp_path / "stowplan/n1"
    assert AgentSettings(state_dir=Path("/x")).state_directory() == Path("/x")


def test_a_service_on_loopback_is_reached_from_loopback() -> None:
    assert local_address("http://127.0.0.1:8470") == "127.0.0.1"


def test_where_groups_are_made_can_be_said_in_systemd_s_words() -> None:
    for group in ("/stowplan", "/system.slice/stowplan-tasks.slice", "/kubepods/user@1000"):
        assert AgentSettings(cgroup_parent=group).cgroup_parent == group
