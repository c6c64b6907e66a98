"""The few elements of SVG that a picture is made of. All text passes through :func:`printable`."""

from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement

CHARACTER = 6.4
"""About the width of a character of 11 px."""

STYLE = """
text { font: 11px system-ui, sans-serif; fill: #1f2328 }
.name { font-weight: 600 }
.quiet { fill: #57606a }
.on { fill: #111 }
.free { fill: #eceff2; stroke: #8c959f; stroke-width: .6 }
.part { stroke: #fff; stroke-width: .6 }
.moved { fill: none; stroke: #000; stroke-width: 2 }
.corner { fill: #000 }
.used { fill: #8c959f }
.hatch { fill: url(#stowplan-hatch); stroke: #57606a; stroke-width: .6 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .quiet { fill: #9da7b1 }
  .on { fill: #111 }
  .free { fill: #2a3038; stroke: #6e7681 }
  .part { stroke: #0d1117 }
  .moved { stroke: #fff }
  .corner { fill: #fff }
}
"""


@dataclass(frozen=True, slots=True)
class Box:
    x: float
    y: float
    width: float
    height: float

    def attributes(self, kind: str) -> dict[str, str]:
        return {
            "class": kind,
            "x": number(self.x),
            "y": number(self.y),
            "width": number(self.width),
            "height": number(self.height),
        }


def text_of(parent: Element, tag: str, text: str, **attributes: str) -> Element:
    element = SubElement(parent, tag, attributes)
    element.text = printable(text)
    return element


def write(parent: Element, x: float, y: float, text: str, kind: str | None = None) -> None:
    place = {"x": number(x), "y": number(y)}
    text_of(parent, "text", text, **(place if kind is None else place | {"class": kind}))


def cut(text: str, width: float) -> str:
    """As much of the text as about fits; empty where nothing does."""
    most = int(width / CHARACTER)
    if len(text) <= most:
        return text
    return text[: most - 1] + "…" if most > 1 else ""


def printable(text: str) -> str:
    """The text without what no XML document may hold, or what would turn the line around."""
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text)


def number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def define_hatch(svg: Element) -> None:
    pattern = SubElement(
        SubElement(svg, "defs"),
        "pattern",
        {
            "id": "stowplan-hatch",
            "width": "6",
            "height": "6",
            "patternUnits": "userSpaceOnUse",
            "patternTransform": "rotate(45)",
        },
    )
    SubElement(pattern, "rect", {"width": "2.4", "height": "6", "fill": "#8c959f"})
