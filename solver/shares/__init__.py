"""How much of the cluster is each queue's, and how well founded each task's claim to it is."""
