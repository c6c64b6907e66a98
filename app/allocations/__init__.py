"""Allocations: one replica of a task committed to one node. Both nodes and tasks are seen through
them."""
