"""What a task demands of its nodes: labels that it selects, and what it wants enforced."""

import pytest
from pydantic import ValidationError

from protocol.task import Enforced, TaskSpec

FORCE = ("cgroup2", "cgroup1")


def test_a_task_without_demands_selects_what_it_says() -> None:
    spec = TaskSpec(argv=("train",), node_selector={"zone": ("a",)})
    assert spec.selector == {"zone": ("a",)}


def test_what_is_to_be_enforced_is_one_more_label_of_its_nodes() -> None:
    spec = TaskSpec(
        argv=("train",),
        node_selector={"zone": ("a",)},
        enforce=(Enforced.MEMORY, Enforced.PIDS),
    )
    assert spec.selector == {"zone": ("a",), "enforce.memory": FORCE, "enforce.pids": FORCE}


def test_a_selected_way_of_enforcing_stays_selected() -> None:
    spec = TaskSpec(
        argv=("train",),
        node_selector={"enforce.memory": ("cgroup2", "watch")},
        enforce=(Enforced.MEMORY,),
    )
    assert spec.selector == {"enforce.memory": ("cgroup2",)}


def test_a_demand_that_its_own_selector_excludes_is_a_fault() -> None:
    with pytest.raises(ValidationError, match="enforce: memory is demanded by force"):
        TaskSpec(
            argv=("train",),
            node_selector={"enforce.memory": ("watch",)},
            enforce=(Enforced.MEMORY,),
        )
