"""Why tasks wait and what would let them run (docs/model.md, section 6)."""

from solver.explain.queue import explain

__all__ = ["explain"]
