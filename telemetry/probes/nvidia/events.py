"""Waits for what the driver tells by itself.

NVML keeps no "last Xid": who doesn't wait misses it.
"""

import ctypes
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from telemetry.probes.nvidia.binding import DeviceLostError, DriverConfusedError, Nvml
from telemetry.probes.nvidia.discovery import Gpu
from telemetry.samples import DeviceEvent, DeviceEventKind
from telemetry.xids import describe

# A wait is as short as this because reopening NVML has to sit the current one out.
_WAIT_MS = 500
_STOP_SECONDS = 5.0
_WHOLE_GPU = 0xFFFFFFFF


class StuckError(Exception):
    """The driver doesn't return from waiting: NVML can't be reopened in this process."""


class EventWatcher:
    """A thread that waits on an NVML event set. ``emit`` is called on that thread."""

    def __init__(
        self,
        nvml: Nvml,
        gpus: Sequence[Gpu],
        *,
        emit: Callable[[DeviceEvent], None],
        wall_seconds: Callable[[], float] = time.time,
    ) -> None:
        self.fault: str | None = None
        """Why it waits no more, in words; set by the thread."""
        self.lost_gpu = False
        """Whether it is a GPU's loss that ended the wait."""
        self.has_waited = False
        """The driver has let it wait at least once."""
        self.repartitioned = False
        """A MIG setting was changed since; set by the thread."""
        self._pynvml = nvml.binding
        self._emit = emit
        self._wall_seconds = wall_seconds
        self._gpus = {_address(gpu.handle): gpu for gpu in gpus}
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._set: Any = None
        if gpus and self._register(nvml, gpus):
            self._thread = threading.Thread(target=self._run, name="nvml-events", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread and free the event set; NVML may be closed afterwards.

        Raises:
            StuckError: the thread can't be ended.
        """
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(_STOP_SECONDS)
            if self._thread.is_alive():
                raise StuckError("NVML doesn't return from waiting for events")
            self._thread = None
        if self._set is not None:
            self._pynvml.nvmlEventSetFree(self._set)
            self._set = None

    def _register(self, nvml: Nvml, gpus: Sequence[Gpu]) -> bool:
        pynvml = self._pynvml
        wanted = pynvml.nvmlEventTypeXidCriticalError | pynvml.nvmlEventMigConfigChange
        registered = False
        try:
            self._set = pynvml.nvmlEventSetCreate()
        except pynvml.NVMLError as error:
            self.fault = f"the driver's events can't be had: {error}"
            return False
        for gpu in gpus:
            # A GPU that is lost by now has none; an unsupported bit would make the driver refuse
            # the others with it.
            with suppress(pynvml.NVMLError, DeviceLostError, DriverConfusedError):
                types = nvml.ask_once(gpu.uuid, "nvmlDeviceGetSupportedEventTypes", gpu.handle)
                if types and types & wanted:
                    pynvml.nvmlDeviceRegisterEvents(gpu.handle, types & wanted, self._set)
                    registered = True
        return registered

    def _run(self) -> None:
        pynvml = self._pynvml
        while not self._stopping.is_set():
            try:
                event = pynvml.nvmlEventSetWait_v2(self._set, _WAIT_MS)
            except pynvml.NVMLError as error:
                if error.value == pynvml.NVML_ERROR_TIMEOUT:
                    self.has_waited = True
                    continue
                self.lost_gpu = error.value in (
                    pynvml.NVML_ERROR_GPU_IS_LOST,
                    pynvml.NVML_ERROR_RESET_REQUIRED,
                    pynvml.NVML_ERROR_GPU_NOT_FOUND,
                )
                self.fault = f"waiting for the driver's events failed: {error}"
                return
            if event.eventType == pynvml.nvmlEventMigConfigChange:
                self.repartitioned = True
            elif event.eventType == pynvml.nvmlEventTypeXidCriticalError:
                self._tell(event)

    def _tell(self, event: Any) -> None:
        code = int(event.eventData)
        for uuid in self._concerned(event):
            self._emit(
                DeviceEvent(
                    at_ms=int(self._wall_seconds() * 1000),
                    kind=DeviceEventKind.XID,
                    uuid=uuid,
                    code=code,
                    message=describe(code),
                )
            )

    def _concerned(self, event: Any) -> list[str | None]:
        """The devices that an event is about: of a divided GPU the instance that it names, or all
        of them."""
        gpu = self._gpus.get(_address(event.device))
        if gpu is None or not gpu.parts:
            return [gpu.uuid if gpu is not None else None]
        named = [
            part.device.uuid
            for part in gpu.parts
            if part.gpu_instance == event.gpuInstanceId
            and event.computeInstanceId in (part.compute_instance, _WHOLE_GPU)
        ]
        return [*named] if named else [part.device.uuid for part in gpu.parts]


def _address(handle: Any) -> int | None:
    return ctypes.cast(handle, ctypes.c_void_p).value
