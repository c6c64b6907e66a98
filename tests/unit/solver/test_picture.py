"""A picture says what the plan says, of any plan and whatever the ids are."""

from xml.etree.ElementTree import Element, fromstring

import pytest

from solver import ColourBy, draw, solve
from solver.plan import (
    ObjectiveTerm,
    Placement,
    Plan,
    Reason,
    ReasonCode,
    Stats,
    Status,
    Unplaced,
)
from solver.problem import Budget, Device, Node, Problem, Request, Slot, Task
from tests.problems import random_problem

SVG = "{http://www.w3.org/2000/svg}"
TAGS = {"svg", "title", "desc", "style", "defs", "pattern", "g", "rect", "path", "text"}
STATS = Stats(seconds=0.0, quick_seconds=0.0, workers=1, digest="")
NO_ROOM = ReasonCode.NO_CAPACITY
HALF = Request(gpus=1, gpu_milli=500)


def problem_of(*nodes: Node, tasks: tuple[Task, ...] = ()) -> Problem:
    return Problem(version=1, nodes=nodes, tasks=tasks, budget=Budget(deterministic=True))


def plan_of(*placements: tuple[str, Slot], **more: object) -> Plan:
    return Plan(
        **{
            "version": 1,
            "status": Status.FEASIBLE,
            "placements": tuple(Placement(task=t, replicas=(s,)) for t, s in placements),
            "stats": STATS,
            **more,
        }
    )


def drawn(problem: Problem, plan: Plan, by: ColourBy = ColourBy.TASK) -> Element:
    return fromstring(draw(problem, plan, by))


def of_class(picture: Element, kind: str) -> list[Element]:
    return [element for element in picture.iter() if element.get("class") == kind]


def part_of(picture: Element, task: str) -> Element:
    """The first part with that tooltip: a group of a rectangle and words."""
    return next(
        group
        for group in picture.iter(f"{SVG}g")
        if (group.findtext(f"{SVG}title") or "").startswith(f"{task}: ")
    )


def said(picture: Element) -> str:
    return " ".join("".join(picture.itertext()).split())


def test_shares_are_as_wide_as_they_are_large_and_tell_what_they_are() -> None:
    node = Node(id="n", devices=(Device(id="g"),))
    tasks = tuple(Task(id=f"t{m}", request=Request(gpus=1, gpu_milli=m)) for m in (200, 600))
    slot = Slot(node="n", devices=("g",))
    problem = problem_of(node, tasks=tasks)
    picture = drawn(problem, plan_of(*((task.id, slot) for task in tasks)))
    small, large = (float(part.get("width", "")) for part in of_class(picture, "part")[:2])
    assert large == pytest.approx(3 * small, rel=0.01)
    assert part_of(picture, "t200").findtext(f"{SVG}title") == (
        "t200: 200 milli of device g of n\nreplica 1 of 1, queue default, priority 0"
    )


def test_the_headline_counts_and_the_caption_gives_bounds_gaps_and_who_waits() -> None:
    node = Node(id="n", devices=(Device(id="g"),))
    terms = (
        ObjectiveTerm(name="placed", level=5, value=900, bound=1000, gap=0.1),
        ObjectiveTerm(name="disruption", value=0, bound=0, gap=0.0),
    )
    plan = plan_of(
        ("a", Slot(node="n", devices=("g",))), objective=terms, unplaced=(Unplaced(task="b"),)
    )
    text = said(drawn(problem_of(node, tasks=(Task(id="a", request=HALF), Task(id="b"))), plan))
    assert "1 node, 1 device: 1 of 2 tasks runs (feasible)" in text
    assert "placed (priority 5): 900, bound 1,000, gap 10 %" in text
    assert "disruption: 0, bound 0, proven best" in text
    assert "b waits: no reason is given" in text


def test_a_moved_task_is_marked_and_tells_where_it_ran() -> None:
    nodes = tuple(Node(id=name, devices=(Device(id="g"),)) for name in "xy")
    task = Task(id="t", request=HALF, placed=(Slot(node="x", devices=("g",)),))
    stays = Task(id="s", request=HALF, placed=(Slot(node="y", devices=("g",)),))
    there = Slot(node="y", devices=("g",))
    plan = plan_of(("t", there), ("s", there), moved=("t",))
    picture = drawn(problem_of(*nodes, tasks=(task, stays)), plan)
    assert of_class(part_of(picture, "t"), "moved")
    assert not of_class(part_of(picture, "s"), "moved")
    assert "it ran on g of x" in said(picture)
    assert "moved: t" in said(picture)


def test_what_takes_nothing_new_is_hatched() -> None:
    healthy, lost = Device(id="0"), Device(id="1", healthy=False)
    picture = drawn(
        problem_of(
            Node(id="a", devices=(healthy, lost)),
            Node(id="b", devices=(healthy, Device(id="1")), schedulable=False),
        ),
        plan_of(),
    )
    assert len(of_class(picture, "hatch")) == 3 + 1  # and one in the legend
    fine = drawn(problem_of(Node(id="a", devices=(healthy,))), plan_of())
    assert not of_class(fine, "hatch")


def test_a_colour_stands_for_what_is_asked() -> None:
    node = Node(id="n", devices=tuple(Device(id=i) for i in "012"))
    tasks = tuple(
        Task(id=name, priority=priority, request=HALF)
        for name, priority in (("a", 1), ("b", 1), ("c", 0))
    )
    plan = plan_of(
        *((t.id, Slot(node="n", devices=(d,))) for t, d in zip(tasks, "012", strict=True))
    )
    problem = problem_of(node, tasks=tasks)

    def colours(by: ColourBy) -> list[str | None]:
        parts = of_class(drawn(problem, plan, by), "part")
        return [part.get("fill") for part in parts[:3]]

    assert len(set(colours(ColourBy.TASK))) == 3
    assert len(set(colours(ColourBy.QUEUE))) == 1
    a, b, c = colours(ColourBy.PRIORITY)
    assert a == b != c


HOSTILE = (
    "<script>alert(1)</script>",
    '" onload="alert(1)',
    "]]><svg/onload=alert(1)>",
    "&lt;b&gt;&#0;",
    "a\x00b\x1b[31m\u202etxt",
    "\ud800",
    "</style><script>",
)


@pytest.mark.parametrize("name", HOSTILE)
def test_ids_are_text_and_never_markup(name: str) -> None:
    node = Node(
        id=name,
        devices=(Device(id=name, model=name),),
        domains={name: name},
        schedulable=False,
    )
    task = Task(id=name, request=HALF, placed=(Slot(node=name, devices=(name,)),))
    waits = Task(id=name + "2", request=Request(gpus=9))
    plan = plan_of(
        (name, task.placed[0]),
        moved=(name,),
        unplaced=(Unplaced(task=waits.id, reasons=(Reason(code=NO_ROOM, text=name),)),),
        objective=(ObjectiveTerm(name=name, value=0, bound=0, gap=0.0),),
    )
    text = draw(problem_of(node, tasks=(task, waits)), plan)
    text.encode()
    picture = fromstring(text)
    assert {element.tag for element in picture.iter()} <= {SVG + tag for tag in TAGS}
    values = [value for element in picture.iter() for value in element.attrib.values()]
    assert not [value for value in values if "alert" in value or "<" in value]
    assert "script" not in "".join(
        element.text or "" for element in picture.iter() if element.tag == f"{SVG}style"
    )


@pytest.mark.parametrize(
    "problem",
    [
        problem_of(),
        problem_of(tasks=(Task(id="t"),)),
        problem_of(Node(id="n")),
        problem_of(Node(id="n", cpu_milli=10), tasks=(Task(id="t", request=Request(cpu_milli=5)),)),
        problem_of(*(Node(id=str(i), cpu_milli=9) for i in range(70)), tasks=(Task(id="t"),)),
    ],
)
def test_where_there_is_little_or_no_device_there_is_still_a_picture(problem: Problem) -> None:
    picture = drawn(problem, solve(problem))
    assert picture.get("role") == "img"
    named = (picture.get("aria-labelledby") or "").split()
    assert [element.get("id") for element in picture[:2]] == named
    assert said(picture).startswith(f"{len(problem.nodes)} node")


def test_large_clusters_are_strips_with_everything_in_tooltips() -> None:
    nodes = tuple(
        Node(id=f"n{i}", devices=tuple(Device(id=str(d)) for d in range(1 + i % 8)))
        for i in range(1213)
    )
    tasks = tuple(Task(id=f"t{i}", request=Request(gpus=1)) for i in range(1213))
    plan = plan_of(
        *((t.id, Slot(node=n.id, devices=("0",))) for t, n in zip(tasks, nodes, strict=True))
    )
    picture = drawn(problem_of(*nodes, tasks=tasks), plan)
    assert part_of(picture, "t1212") is not None
    assert len(of_class(picture, "free")) == sum(len(node.devices) for node in nodes) + 1
    assert "one colour a task: 1,213 of them" in said(picture)
    assert is_inside(picture)


def test_a_plan_that_names_what_is_not_there_is_drawn_without_it() -> None:
    node = Node(id="n", devices=(Device(id="g"),))
    problem = problem_of(node, tasks=(Task(id="t", request=HALF),))
    plan = plan_of(
        ("t", Slot(node="n", devices=("lost",))), ("who", Slot(node="n", devices=("g",)))
    )
    assert "not drawn: 2 slots that name nothing of this problem" in said(drawn(problem, plan))


def test_too_many_shares_on_a_device_still_fit_into_its_box() -> None:
    node = Node(id="n", devices=(Device(id="g"),))
    slot = Slot(node="n", devices=("g",))
    tasks = tuple(Task(id=str(i), request=Request(gpus=1), placed=(slot,)) for i in range(3))
    picture = drawn(problem_of(node, tasks=tasks), plan_of(*((t.id, slot) for t in tasks)))
    box, *_ = of_class(picture, "free")[2:]
    widths = [float(part.get("width", "")) for part in of_class(picture, "part")[:3]]
    assert sum(widths) == pytest.approx(float(box.get("width", "")), abs=0.1)


@pytest.mark.parametrize("devices", [1, 64, 1000])
def test_nothing_is_drawn_outside_the_picture(devices: int) -> None:
    node = Node(id="n" * 200, devices=tuple(Device(id=str(i)) for i in range(devices)))
    assert is_inside(drawn(problem_of(node), plan_of()))
    assert is_inside(drawn(problem_of(node, *(Node(id=str(i)) for i in range(99))), plan_of()))


@pytest.mark.parametrize("seed", range(20))
def test_any_plan_can_be_drawn(seed: int) -> None:
    problem = random_problem(seed).with_budget(Budget(deterministic=True, seconds=0.1))
    plan = solve(problem)
    picture = drawn(problem, plan)
    assert is_inside(picture)
    tips = [group.findtext(f"{SVG}title") or "" for group in picture.iter(f"{SVG}g")]
    held = [device for p in plan.placements for slot in p.replicas for device in slot.devices]
    assert sum(" milli of device " in tip for tip in tips) == len(held)
    assert draw(problem, plan) == draw(problem, plan)


def is_inside(picture: Element) -> bool:
    _, _, width, height = map(float, (picture.get("viewBox") or "").split())
    return all(
        float(box.get("x", 0)) >= 0
        and float(box.get("y", 0)) >= 0
        and float(box.get("x", 0)) + float(box.get("width", "")) <= width
        and float(box.get("y", 0)) + float(box.get("height", "")) <= height
        for box in picture.iter(f"{SVG}rect")
    )
