"""Keep files small: `make lint` fails on a source file of over 600 lines, and names those over 400.

A file that grows past that holds more than one thing. Documents, data and vendored code are not
counted.
"""

import subprocess
import sys
from pathlib import Path

QUESTION_LINES = 400
LIMIT_LINES = 600
SUFFIXES = frozenset({".css", ".html", ".js", ".mako", ".py", ".sh"})


def source_files(root: Path) -> list[Path]:
    """The source files that git tracks, or would with the next `git add`, relative to ``root``."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        check=True,
        text=True,
    )
    paths = {Path(name) for name in listed.stdout.split("\0") if name}
    return sorted(
        path
        for path in paths
        if path.suffix in SUFFIXES and "vendor" not in path.parts and (root / path).is_file()
    )


def line_counts(root: Path) -> dict[Path, int]:
    """Lines of each source file that has more than ``QUESTION_LINES``, the longest first."""
    counts = {
        path: len((root / path).read_text(encoding="utf-8").splitlines())
        for path in source_files(root)
    }
    long = {path: lines for path, lines in counts.items() if lines > QUESTION_LINES}
    return dict(sorted(long.items(), key=lambda item: -item[1]))


def main(root: Path) -> int:
    too_long = False
    for path, lines in line_counts(root).items():
        if lines > LIMIT_LINES:
            too_long = True
            print(f"{path}: {lines} lines, more than {LIMIT_LINES}: split it")
        else:
            print(f"{path}: {lines} lines, more than {QUESTION_LINES}: does it hold two things?")
    return 1 if too_long else 0


if __name__ == "__main__":
    sys.exit(main(Path.cwd()))
