"""docs/solver.md as a program: its examples, and the picture that they end in.

``python -m tests.solver_page`` draws the picture anew.
"""

import doctest
import re
from pathlib import Path
from typing import Any

from solver import draw

DOCS = Path(__file__).parent.parent / "docs"
PAGE = DOCS / "solver.md"
PICTURE = DOCS / "img" / "plan.svg"
AGAIN = "python -m tests.solver_page"

_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run_page() -> tuple[str, dict[str, Any]]:
    """What the examples got wrong, as a report, and the names that they leave behind."""
    text = PAGE.read_text()
    names: dict[str, Any] = {}
    report: list[str] = []
    runner = doctest.DocTestRunner(verbose=False)
    for block in _BLOCK.finditer(text):
        line = text.count("\n", 0, block.start(1))
        test = doctest.DocTestParser().get_doctest(block[1], names, PAGE.name, str(PAGE), line)
        runner.run(test, out=report.append, clear_globs=False)
        names = test.globs
    return "".join(report), names


def picture_of(names: dict[str, Any]) -> str:
    """The picture of the page's plan."""
    return draw(names["problem"], names["plan"])


if __name__ == "__main__":
    wrong, left = run_page()
    print(wrong, end="")
    PICTURE.write_text(picture_of(left))
