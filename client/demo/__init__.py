"""`stowplan demo`: the whole line on this machine, from an empty home to a summary."""
