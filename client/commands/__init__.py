"""The sub-commands of `stowplan`. Each module defines ``register(cli)`` and imports what is heavy
when it runs.
"""
