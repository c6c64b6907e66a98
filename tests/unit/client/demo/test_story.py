"""The demo's tasks and what it reads from them, without running any."""

from pathlib import Path

from client.demo.digits import load_held_out
from client.demo.processes import DEVICES_PER_NODE, NODES
from client.demo.story import MISFIT, Answers, Losses, Outcome, examples_dir, read_losses, specs
from client.demo.summary import (
    next_steps,
    outcome_word,
    summary_lines,
    summary_table,
)
from protocol.task import TaskSpec

SPECS = specs(examples_dir(), checkpoint_dir=Path("/tmp/c"), work_dir=Path("/tmp/w"))


def test_tasks_are_of_the_form_that_people_submit() -> None:
    for spec in SPECS.values():
        assert TaskSpec.model_validate(spec, strict=False).name == spec["name"]
        assert Path(spec["argv"][1]).is_file()


def test_all_but_the_misfit_fill_the_cluster_exactly() -> None:
    gpus = {name: spec["request"]["gpus"] * spec.get("replicas", 1) for name, spec in SPECS.items()}
    assert gpus.pop(MISFIT) > DEVICES_PER_NODE
    assert sum(gpus.values()) == DEVICES_PER_NODE * len(NODES)


def test_losses_are_read_from_either_programs_last_words() -> None:
    assert read_losses(["loss first=2.0000 ", "last=0.2500\n"]) == Losses(before=2.0, after=0.25)
    assert read_losses(["loss before=4.5\n", "loss before=4.5 after=2.25\n"]) == Losses(
        before=4.5, after=2.25
    )
    assert read_losses(["loss before=4.5\n"]) is None


def test_held_out_digits_are_every_fifth_and_of_all_ten_kinds() -> None:
    held_out = load_held_out()
    assert len(held_out.images) == len(held_out.labels) == 360
    assert {len(image) for image in held_out.images} == {64}
    assert set(held_out.labels) == set(range(10))
    assert max(max(image) for image in held_out.images) == 16


def outcome(documents, name: str, state: str, problem: str = "") -> Outcome:
    task = documents.task(documents.allocation("demo-a", 0, simulated=True), name=name, state=state)
    return Outcome(task=task, result="-", problem=problem, log_tail="boom\n")


def test_outcome_tells_work_that_was_done_from_work_that_was_not(documents) -> None:
    assert outcome_word(outcome(documents, "digits-gang", "succeeded")) == "succeeded"
    assert outcome_word(outcome(documents, "digits-service", "cancelled")) == "succeeded"
    assert outcome_word(outcome(documents, "digits-service", "running")) == "serves"
    assert outcome_word(outcome(documents, MISFIT, "cancelled")) == "waited"
    assert outcome_word(outcome(documents, "digits-gang", "failed", "it broke")) == "failed"


def test_summary_names_problems_with_the_end_of_the_log(documents) -> None:
    outcomes = [outcome(documents, "digits-gang", "failed", "it is failed: exit code 1")]
    lines = list(summary_lines(outcomes))
    assert "simulated" in lines[0]
    assert lines[1:] == ["digits-gang: it is failed: exit code 1", "  | boom"]
    [row] = summary_table(outcomes).rows
    assert row[:5] == ("digits-gang", "failed", "failed", "demo-a", "simulated GPU 0")


def test_accuracy_is_right_over_asked() -> None:
    assert str(Answers(asked=4, right=3)) == "3 of 4 held-out digits right (75.0%)"


def test_next_steps_name_address_token_and_endpoint() -> None:
    text = "\n".join(next_steps(server="http://h:1", home=Path("/h"), endpoint="127.0.0.1:7"))
    for part in (
        "http://h:1",
        "/h/user.token",
        "http://127.0.0.1:7/predict",
        "stowplan why misfit",
    ):
        assert part in text
