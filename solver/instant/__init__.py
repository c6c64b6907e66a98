"""The gear for one arriving task: a state that lives on, and an answer within milliseconds."""

from solver.instant.planner import Decision, Move, Planner

__all__ = ["Decision", "Move", "Planner"]
