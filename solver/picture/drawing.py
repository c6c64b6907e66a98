"""A plan as a picture: nodes x devices, each device divided among the tasks that hold it. SVG text.

Small clusters are drawn a node a row, with names; large ones a node a strip of small cells. What
doesn't fit in words is in the tooltips. It is readable on light and dark pages.
"""

from collections.abc import Iterator
from textwrap import wrap
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from solver.picture.scene import ColourBy, Scene
from solver.picture.svg import CHARACTER, STYLE, Box, cut, define_hatch, number, text_of, write
from solver.picture.words import about_node, about_part, caption, headline, models
from solver.plan import Plan
from solver.problem import WHOLE_DEVICE_MILLI, Device, Node, Problem

MOST_ROWS = 64
"""More nodes than this are drawn as strips."""
MOST_NAMED = 24
"""Colours that the legend names; with more it only says what they stand for."""
MOST_WRAPPED = 2
"""Lines that one entry of the caption may take."""

WIDTH = 960.0
MARGIN = 12.0
LINE = 17.0
LABEL, GAUGE, ROW, ROW_GAP = 150.0, 9.0, 30.0, 8.0
CELL, STRIP_GAP = 9.0, 8.0
WIDEST_DEVICE = 130.0


def draw(problem: Problem, plan: Plan, by: ColourBy = ColourBy.TASK) -> str:
    """The plan as an SVG document. Any plan can be drawn, also one that breaks rules: slots that
    name nothing of the problem are counted in the caption.

    >>> from solver import Budget, Device, Node, Problem, Request, Task, draw, solve
    >>> node = Node(id="n1", devices=(Device(id="0"), Device(id="1", healthy=False)))
    >>> share = Task(id="<share>", request=Request(gpus=1, gpu_milli=400))
    >>> problem = Problem(
    ...     version=1, nodes=(node,), tasks=(share,), budget=Budget(deterministic=True)
    ... )
    >>> picture = draw(problem, solve(problem))
    >>> picture.startswith("<svg"), "&lt;share&gt;" in picture, "<share>" in picture
    (True, True, False)
    """
    scene = Scene(problem, plan, by)
    svg = Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "role": "img",
            "aria-labelledby": "stowplan-title stowplan-desc",
        },
    )
    title = headline(scene)
    text_of(svg, "title", title, id="stowplan-title")
    lines = caption(scene)
    text_of(svg, "desc", " ".join(lines), id="stowplan-desc")
    SubElement(svg, "style").text = STYLE
    define_hatch(svg)
    write(svg, MARGIN, MARGIN + 10, title, "name")
    y = MARGIN + LINE + 4
    y = _rows(svg, scene, y) if len(problem.nodes) <= MOST_ROWS else _strips(svg, scene, y)
    y = _legend(svg, scene, y + LINE)
    for line in _wrapped(lines):
        write(svg, MARGIN, y, line, "quiet")
        y += LINE
    svg.set("viewBox", f"0 0 {number(WIDTH)} {number(y)}")
    svg.set("width", number(WIDTH))
    svg.set("height", number(y))
    indent(svg, " ")
    return tostring(svg, encoding="unicode") + "\n"


def _rows(svg: Element, scene: Scene, y: float) -> float:
    """A node a row: its name, how much of its CPU and memory is taken, its devices."""
    nodes = scene.problem.nodes
    most = max((len(node.devices) for node in nodes), default=1)
    left = MARGIN + LABEL + 2 * (GAUGE + 4) + 8
    width = min(WIDEST_DEVICE, (WIDTH - MARGIN - left) / max(most, 1))
    for node in nodes:
        row = SubElement(svg, "g")
        text_of(row, "title", about_node(scene, node))
        name = cut(node.id, LABEL - 6)
        write(row, MARGIN, y + 12, name, "name")
        about = "cordoned" if not node.schedulable else models(node.devices)
        write(row, MARGIN, y + 26, cut(about, LABEL - 6), "quiet")
        use = scene.use[node.id]
        for i, (taken, room) in enumerate(
            ((use["cpu_milli"], node.cpu_milli), (use["memory_mib"], node.memory_mib))
        ):
            _gauge(row, Box(MARGIN + LABEL + i * (GAUGE + 4), y, GAUGE, ROW), taken, room)
        for i, device in enumerate(node.devices):
            box = Box(left + i * width, y, width - min(4.0, width / 4), ROW)
            _device(row, scene, node, device, box, is_named=True)
        y += ROW + ROW_GAP
    return y


def _strips(svg: Element, scene: Scene, y: float) -> float:
    """A node a strip of cells, strip beside strip."""
    most = max(1, *(len(node.devices) for node in scene.problem.nodes))
    cell = min(CELL, (WIDTH - 2 * MARGIN) / most)
    x = MARGIN
    for node in scene.problem.nodes:
        width = max(1, len(node.devices)) * cell
        if x > MARGIN and x + width > WIDTH - MARGIN:
            x, y = MARGIN, y + CELL + 3
        group = SubElement(svg, "g")
        text_of(group, "title", about_node(scene, node))
        for i, device in enumerate(node.devices):
            box = Box(x + i * cell, y, cell - cell / CELL, CELL)
            _device(group, scene, node, device, box, is_named=False)
        if not node.devices:
            box = Box(x, y + CELL / 3, cell - 1, CELL / 3)
            _gauge(group, box, scene.use[node.id]["cpu_milli"], node.cpu_milli)
        x += width + STRIP_GAP
    return y + CELL + 3


def _device(
    parent: Element, scene: Scene, node: Node, device: Device, box: Box, *, is_named: bool
) -> None:
    """A device: what is free of it, then its parts from left to right, then what bars it."""
    SubElement(parent, "rect", box.attributes("free"))
    parts = scene.parts.get((node.id, device.id), ())
    scale = box.width / max(WHOLE_DEVICE_MILLI, sum(part.task.request.gpu_milli for part in parts))
    x = box.x
    for part in parts:
        room = Box(x, box.y, part.task.request.gpu_milli * scale, box.height)
        group = SubElement(parent, "g")
        text_of(group, "title", about_part(part, node, device))
        colour = scene.colours[part.task.id]
        SubElement(group, "rect", room.attributes("part") | {"fill": colour})
        name = cut(part.task.id, room.width - 6)
        if is_named and len(name) > min(2, len(part.task.id) - 1):
            write(group, room.x + 4, room.y + room.height / 2 + 4, name, "on")
        if part.is_moved:
            _mark(group, room)
        x += room.width
    if not (device.healthy and node.schedulable):
        bar = Box(box.x, box.y + 0.7 * box.height, box.width, 0.3 * box.height) if parts else box
        SubElement(parent, "rect", bar.attributes("hatch"))


def _mark(parent: Element, box: Box) -> None:
    """What has moved: a heavy outline and a corner."""
    inner = Box(box.x + 1, box.y + 1, max(0.5, box.width - 2), box.height - 2)
    SubElement(parent, "rect", inner.attributes("moved"))
    size = min(9.0, box.width, box.height)
    right, top = number(box.x + box.width), number(box.y)
    corner = f"M{right} {top}h-{number(size)}l{number(size)} {number(size)}z"
    SubElement(parent, "path", {"class": "corner", "d": corner})


def _gauge(parent: Element, box: Box, taken: int, room: int) -> None:
    SubElement(parent, "rect", box.attributes("free"))
    part = min(1.0, taken / room) if room else 0.0
    if part and box.height > box.width:
        height = box.height * part
        used = Box(box.x, box.y + box.height - height, box.width, height)
    else:
        used = Box(box.x, box.y, box.width * part, box.height)
    SubElement(parent, "rect", used.attributes("used"))


def _legend(svg: Element, scene: Scene, y: float) -> float:
    nodes = scene.problem.nodes
    x = MARGIN
    entries: list[tuple[str, str | None, str]] = []
    if len(scene.names) <= MOST_NAMED:
        entries += [("part", colour, name) for name, colour in scene.names.items()]
    else:
        many = f"one colour a {scene.by}: {len(scene.names):,} of them"
        entries.append(("part", next(iter(scene.names.values())), many))
    entries.append(("free", None, "free"))
    if len(nodes) <= MOST_ROWS:
        entries.append(("used", None, "CPU and memory in use"))
    if any(not n.schedulable or not all(d.healthy for d in n.devices) for n in nodes):
        entries.append(("hatch", None, "cordoned or unhealthy: takes nothing new"))
    if any(part.is_moved for parts in scene.parts.values() for part in parts):
        entries.append(("moved", None, "moved here"))
    for kind, colour, full_name in entries:
        name = cut(full_name, 300)
        width = 12 + 5 + CHARACTER * len(name) + 16
        if x > MARGIN and x + width > WIDTH - MARGIN:
            x, y = MARGIN, y + LINE
        swatch = Box(x, y - 10, 12, 12)
        fill = {} if colour is None else {"fill": colour}
        if kind == "moved":
            _mark(svg, swatch)
        else:
            SubElement(svg, "rect", swatch.attributes(kind) | fill)
        write(svg, x + 17, y, name)
        x += width
    return y + LINE + 4


def _wrapped(lines: list[str]) -> Iterator[str]:
    """The lines, each in as few as it takes and no more than it may take."""
    width = int((WIDTH - 2 * MARGIN) / CHARACTER)
    for line in lines:
        yield from wrap(line, width, max_lines=MOST_WRAPPED, placeholder=" …")
