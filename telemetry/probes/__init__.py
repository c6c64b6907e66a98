"""The probes: each looks at one kind of thing and may fail without harm to the others."""
