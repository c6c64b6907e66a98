"""What every form on the wire has in common."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

QUANTITY_MAX = 2**53
"""The largest integer that every JSON reader keeps exactly (RFC 8259, section 6)."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", min_length=1, max_length=63)]
"""A node's, queue's or task's name: safe in a path, a URL and a label."""

Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]*$", min_length=1, max_length=128)]
"""An identifier made by the service: opaque to everybody else."""

Text = Annotated[str, Field(max_length=4096, pattern=r"^[^\x00]*$")]
"""Free text. PostgreSQL can't store NUL, and nothing that reads a process's words needs it."""

Quantity = Annotated[int, Field(ge=0, le=QUANTITY_MAX)]
Generation = Annotated[int, Field(ge=1, le=2**31 - 1)]
Milliseconds = Annotated[int, Field(ge=0, le=QUANTITY_MAX)]


class Form(BaseModel):
    """A form: immutable, strict about types, and unknown words are refused, not dropped."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
