"""How the service and the solver's child process tell messages apart: four bytes of length, then
the bytes."""

import struct

LENGTH = struct.Struct(">I")
READY = b"ready"
"""The child's first message: the solver is imported, deadlines may count."""
PLAN, FAULTS = b"P", b"F"
"""The first byte of an answer says which JSON follows."""
