"""What may be wrong with a queue among others: each fault by its path, all of them at once."""

from typing import Any

from app.db.tables import Queue
from app.queues.rules import faults, needs, notes
from app.queues.tree import Tree


def queue(name: str, parent: str | None = None, **more: Any) -> Queue:
    form = {"weight": 1, "guaranteed": {}, "limit": {}, **more}
    return Queue(name=name, parent=parent, **form)


def paths(wanted: Queue, *others: Queue) -> list[str]:
    return [fault.path for fault in faults(wanted, others)]


def chain(length: int) -> list[Queue]:
    return [queue(f"q{i}", f"q{i - 1}" if i else None) for i in range(length)]


def test_a_queue_among_others_is_in_order() -> None:
    ml = queue("ml", guaranteed={"gpu_milli": 8000}, limit={"gpu_milli": 8000})
    share = {"gpu_milli": 4000, "gpu_milli:H100 SXM": 2000}
    assert paths(queue("nlp", "ml", guaranteed=share), ml, queue("vision", "ml")) == []


def test_all_faults_are_named_at_once() -> None:
    wanted = queue(
        "q",
        "none",
        guaranteed={"gpu": 1, "gpu_milli:": 1, "cpu_milli": 9},
        limit={"cpu_milli": 8, "gpus:H100": 1},
    )
    assert paths(wanted) == [
        "guaranteed.gpu", "guaranteed.gpu_milli:", "limit.gpus:H100", "guaranteed.cpu_milli",
        "parent",
    ]  # fmt: skip


def test_guarantees_of_single_models_fit_into_the_limit_of_all() -> None:
    share = {"gpu_milli:A100": 3000, "gpu_milli:H100": 3000}
    assert paths(queue("q", guaranteed=share, limit={"gpu_milli": 5000})) == ["limit.gpu_milli"]
    assert paths(queue("q", guaranteed=share, limit={"gpu_milli": 6000})) == []


def test_a_queue_is_not_above_itself_however_far() -> None:
    [fault] = faults(queue("q0", "q2"), chain(3))
    assert "ring" in fault.reason
    [fault] = faults(queue("q0", "q0"), chain(1))
    assert "above itself" in fault.reason


def test_eight_levels_are_the_most_whoever_is_put_where() -> None:
    assert paths(queue("q7", "q6"), *chain(7)) == []
    assert paths(queue("q8", "q7"), *chain(8)) == ["parent"]
    low = [queue("low"), queue("lower", "low")]
    assert paths(queue("low", "q5"), *chain(6), *low) == []
    assert paths(queue("low", "q6"), *chain(7), *low) == ["parent"]


def test_children_are_guaranteed_no_more_than_their_parent() -> None:
    ml = queue("ml", guaranteed={"gpu_milli": 8000})
    nlp = queue("nlp", "ml", guaranteed={"gpu_milli": 5000})
    [fault] = faults(queue("vision", "ml", guaranteed={"gpu_milli": 4000}), [ml, nlp])
    assert (fault.path, fault.value) == ("guaranteed.gpu_milli", 4000)
    assert fault.reason == (
        "nlp, vision below ml are guaranteed 9000 in sum, and ml's guarantee is 8000"
    )
    assert paths(queue("vision", "ml", guaranteed={"gpu_milli": 3000}), ml, nlp) == []
    assert paths(queue("vision", "ml", guaranteed={"cpu_milli": 10**9}), ml, nlp) == []


def test_a_parent_keeps_what_its_children_are_guaranteed() -> None:
    nlp = queue("nlp", "ml", guaranteed={"gpu_milli": 5000})
    [fault] = faults(queue("ml", guaranteed={"gpu_milli": 4000}), [nlp])
    assert (fault.path, fault.value) == ("guaranteed.gpu_milli", 4000)
    assert paths(queue("ml", limit={"gpu_milli": 4000}), nlp) == ["limit.gpu_milli"]


def test_a_level_without_a_guarantee_hides_nothing_from_the_one_above() -> None:
    top = queue("top", guaranteed={"gpu_milli": 4000})
    wanted = queue("low", "middle", guaranteed={"gpu_milli": 5000})
    [fault] = faults(wanted, [top, queue("middle", "top")])
    assert (
        fault.reason == "middle below top are guaranteed 5000 in sum, and top's guarantee is 4000"
    )
    moved = queue("middle", "top")
    assert paths(moved, top, wanted) == ["parent"], "it brings the guarantee of those below it"


def test_a_top_guaranteed_more_than_there_is_is_a_note() -> None:
    queues = [
        queue("a", guaranteed={"gpu_milli": 3000}),
        queue("b"),
        queue("c", "b", guaranteed={"gpu_milli": 2000, "gpu_milli:H100": 1}),
    ]
    capacity = {"gpu_milli": 4000, "gpu_milli:A100": 4000}
    one, two = notes(queues, capacity)
    assert one.startswith("gpu_milli: the queues at the top are guaranteed 5000 together")
    assert two.startswith("gpu_milli:H100: ")
    assert notes(queues, {"gpu_milli": 5000, "gpu_milli:H100": 1000}) == []
    assert notes(queues, {}) == [], "before the first node has joined"
    assert needs({one.name: one for one in queues})["b"]["gpu_milli"] == 2000


def test_the_tree_is_listed_from_the_top_and_equals_by_name() -> None:
    tree = Tree({"b": None, "a2": "a", "a": None, "a1": "a", "b1": "b", "lost": "gone"})
    assert [path[-1] for path in tree.paths] == ["a", "a1", "a2", "b", "b1", "lost"]
    assert tree.within("a1", "a")
    assert not tree.within("a", "a1")
    assert tree.within("nobody", "nobody")
    assert tree.sums({"a1": {"x": 1}, "a": {"x": 2, "y": 3}})["a"] == {"x": 3, "y": 3}
    assert Tree({"a": "b", "b": "a"}).path("a") == ("b", "a")
