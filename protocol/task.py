"""What a user asks for: the form that `stowplan submit`, the SDK and ``POST /api/v1/tasks``
share."""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from protocol.wire import Form, Id, Name, Quantity, Text

EnvironmentName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=256)]
EnvironmentValue = Annotated[str, Field(max_length=32768, pattern=r"^[^\x00]*$")]
Argument = Annotated[str, Field(max_length=32768, pattern=r"^[^\x00]*$")]
Label = Annotated[str, Field(max_length=256, pattern=r"^[^\x00]*$")]

REPLICAS_MAX = 16_384


class Kind(StrEnum):
    """How a task ends: a batch task by itself, a service only when it's told to."""

    BATCH = "batch"
    SERVICE = "service"


class Request(Form):
    """What one replica needs (contract, section 2). A share below 1000 needs ``gpus: 1``."""

    cpu_milli: Quantity = 0
    memory_mib: Quantity = 0
    disk_mib: Quantity = 0
    network_mbps: Quantity = 0
    gpus: Annotated[int, Field(ge=0, le=1024)] = 0
    gpu_milli: Annotated[int, Field(ge=1, le=1000)] = 1000
    gpu_memory_mib: Quantity = 0

    @model_validator(mode="after")
    def _share_only_of_one_device(self) -> Self:
        if self.gpu_milli < 1000 and self.gpus != 1:
            raise ValueError(
                f"gpu_milli {self.gpu_milli} is a share of one device: gpus is {self.gpus}, not 1"
            )
        return self


class TaskSpec(Form):
    """A task: a program, what each replica of it needs, and where it may run.

    ``argv`` is executed as it stands, never through a shell. All replicas of a task start together
    or not
    at all (``min_replicas``, default all).
    """

    name: Name | None = None
    kind: Kind = Kind.BATCH
    argv: Annotated[tuple[Argument, ...], Field(min_length=1, max_length=1024)]
    env: Annotated[dict[EnvironmentName, EnvironmentValue], Field(max_length=256)] = {}
    working_dir: Annotated[str, Field(pattern=r"^/[^\x00]*$", max_length=4096)] | None = None
    queue: Name = "default"
    priority: Annotated[int, Field(ge=-1_000_000, le=1_000_000)] = 0
    replicas: Annotated[int, Field(ge=1, le=REPLICAS_MAX)] = 1
    min_replicas: Annotated[int, Field(ge=1, le=REPLICAS_MAX)] | None = None
    request: Request = Request()
    gpu_models: Annotated[tuple[Label, ...], Field(max_length=64)] = ()
    node_selector: Annotated[
        dict[Label, Annotated[tuple[Label, ...], Field(max_length=256)]], Field(max_length=64)
    ] = {}
    pack_within: Label | None = None
    spread_over: Label | None = None
    separate_from: Annotated[tuple[Id, ...], Field(max_length=256)] = ()
    preemptible: bool = True
    duration_seconds: Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)] | None = None
    grace_seconds: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] = 30.0
    max_restarts: Annotated[int, Field(ge=0, le=1000)] = 0
    comment: Text = ""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        faults = []
        if self.argv and not self.argv[0]:
            faults.append("argv[0] is empty: it names the program to run")
        if self.min_replicas is not None and self.min_replicas > self.replicas:
            faults.append(f"min_replicas {self.min_replicas} is more than replicas {self.replicas}")
        if self.kind is Kind.SERVICE and self.replicas > 1:
            faults.append(
                f"a service has one replica, not {self.replicas}: submit it once a replica"
            )
        if faults:
            raise ValueError("; ".join(faults))
        return self
