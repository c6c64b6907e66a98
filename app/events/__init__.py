"""The history of tasks and nodes, as people read it."""
