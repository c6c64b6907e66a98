"""The Python SDK (:mod:`client.sdk`) and the `stowplan` command (:mod:`client.cli`)."""
