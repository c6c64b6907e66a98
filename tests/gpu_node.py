"""A node with GPUs, which the stand-in NVML plays as the test says."""

from pathlib import Path
from typing import Any

from tests.agent_node import Node
from tests.agent_service import AgentService
from tests.nvml.build import DRIVER, GPU_0, GPU_1, write_script

BOX = (*DRIVER, GPU_0, GPU_1)
"""GPU-a with 1024 MiB in use before anything starts, and GPU-b with none."""


class GpuNode(Node):
    """The environment variable STANDIN_NVML_SCRIPT must name :attr:`world` when it starts."""

    def __init__(self, service: AgentService, folder: Path, library: Path) -> None:
        super().__init__(service, folder)
        self.world = folder / "world"
        self.library = library

    def play(self, *lines: str) -> None:
        write_script(self.world, *lines)

    def start(self, **settings: object) -> Any:
        return super().start(nvml=True, nvml_library=str(self.library), **settings)
