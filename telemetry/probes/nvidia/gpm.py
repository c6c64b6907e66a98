"""GPM: how much of the chip was at work between two looks at it. Hopper and later, and MIG devices,
for which nothing else tells of any use."""

import math
from typing import Any

from telemetry.probes.nvidia.binding import Nvml, UnansweredError

FIELDS = (
    "sm_active_percent",
    "sm_occupancy_percent",
    "tensor_active_percent",
    "memory_bandwidth_percent",
)
_METRICS = (
    "NVML_GPM_METRIC_SM_UTIL",
    "NVML_GPM_METRIC_SM_OCCUPANCY",
    "NVML_GPM_METRIC_ANY_TENSOR_UTIL",
    "NVML_GPM_METRIC_DRAM_BW_UTIL",
)


class GpmReader:
    """Keeps the look before, to compare the next one with."""

    def __init__(self, handle: Any, gpu_instance: int | None) -> None:
        """``handle`` is the GPU's, also for a MIG device, which its ``gpu_instance`` names."""
        self._handle = handle
        self._gpu_instance = gpu_instance
        self._spare: Any = None
        self._before: Any = None
        self._request: Any = None

    def read(self, nvml: Nvml, key: str) -> tuple[float | None, ...] | None:
        """The values of :data:`FIELDS` since the call before; None without GPM.

        Raises:
            UnansweredError: there is nothing to compare with yet.
            DeviceLostError, DriverConfusedError: as :meth:`Nvml.ask`.
        """
        self._request = self._request or self._prepared(nvml, key)
        if self._request is None:
            return None
        sample = self._take(nvml, key)
        if sample is None:
            return None
        before, self._before, self._spare = self._before, sample, self._before
        if before is None:
            # The second buffer, now that it's known that the GPU fills them.
            self._spare = nvml.ask(key, "nvmlGpmSampleAlloc")
            raise UnansweredError("the first look")
        request = self._request
        request.sample1, request.sample2 = before, sample
        if nvml.ask(key, "nvmlGpmMetricsGet", request) is None:
            return None
        return tuple(_percent(request.metrics[i]) for i in range(len(_METRICS)))

    def close(self, nvml: Nvml) -> None:
        """Free what was allocated; NVML must still be open."""
        for sample in (self._spare, self._before):
            if sample is not None:
                nvml.ask_once("*", "nvmlGpmSampleFree", sample)
        self._spare = self._before = self._request = None

    def _prepared(self, nvml: Nvml, key: str) -> Any:
        support = nvml.ask(key, "nvmlGpmQueryDeviceSupport", self._handle)
        if support is None or not support.isSupportedDevice:
            return None
        if self._spare is None:
            self._spare = nvml.ask(key, "nvmlGpmSampleAlloc")
        if self._spare is None:
            return None
        pynvml = nvml.binding
        request = pynvml.c_nvmlGpmMetricsGet_t()
        request.version = pynvml.NVML_GPM_METRICS_GET_VERSION
        request.numMetrics = len(_METRICS)
        for i, metric in enumerate(_METRICS):
            request.metrics[i].metricId = getattr(pynvml, metric)
        return request

    def _take(self, nvml: Nvml, key: str) -> Any:
        if self._gpu_instance is None:
            return nvml.ask(key, "nvmlGpmSampleGet", self._handle, self._spare)
        arguments = (self._handle, self._gpu_instance, self._spare)
        return nvml.ask(key, "nvmlGpmMigSampleGet", *arguments)


def _percent(metric: Any) -> float | None:
    value = float(metric.value)
    if metric.nvmlReturn != 0 or not math.isfinite(value) or value < 0:
        return None
    return round(min(value, 100.0), 2)
