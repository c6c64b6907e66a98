"""GPUs: what a task gets of them at its start, and whether they are free after its end."""
