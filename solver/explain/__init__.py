"""Why tasks wait and what would let them run (docs/model.md, W1 to W5)."""

from solver.explain.queue import explain

__all__ = ["explain"]
