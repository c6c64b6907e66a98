"""One opened GPU: samples of the devices that it is."""

from collections.abc import Collection, Iterator, Sequence

from telemetry.probes.nvidia.binding import Nvml
from telemetry.probes.nvidia.discovery import Gpu, Part, has_mig_on, mig_handles
from telemetry.probes.nvidia.gpm import GpmReader
from telemetry.probes.nvidia.pace import PacedReader
from telemetry.probes.nvidia.sensors import (
    DIVIDED_FIELDS,
    DIVIDED_SENSORS,
    FIELDS,
    MIG_SENSORS,
    PERIOD_SECONDS,
    SENSORS,
    Asked,
    Tier,
)
from telemetry.samples import DeviceSample


class RepartitionedError(Exception):
    """The GPU is divided into other MIG devices than before."""


class GpuReader:
    """Reads a GPU as a whole, and each of its MIG devices when it's divided."""

    def __init__(self, gpu: Gpu, *, stagger: float, now: float) -> None:
        """``stagger``: see :class:`PacedReader`."""
        self.gpu = gpu
        self._uuids = [part.device.uuid for part in gpu.parts]
        sensors = DIVIDED_SENSORS if gpu.is_divided else SENSORS
        self._whole = PacedReader(
            Asked(gpu.uuid, gpu.handle, GpmReader(gpu.handle, None)), sensors, stagger=stagger
        )
        self._parts = [_mig_reader(gpu, part, stagger) for part in gpu.parts if gpu.is_divided]
        self._division_due = now + PERIOD_SECONDS[Tier.SLOW] * stagger

    @property
    def uuids(self) -> Sequence[str]:
        """Of its devices."""
        return self._uuids

    def read(self, nvml: Nvml, now: float, *, fresh: Collection[str] = ()) -> list[str]:
        """Bring the values up to date; which sensors are slowed down from now on, in words.

        ``fresh`` names devices that are looked at anew: see :class:`PacedReader`.

        Raises:
            DeviceLostError, DriverConfusedError, RepartitionedError: there is no reading.
        """
        if now >= self._division_due:
            self._division_due = now + PERIOD_SECONDS[Tier.SLOW]
            self._check_division(nvml)
        complaints = []
        for reader in (self._whole, *self._parts):
            complaints += reader.read(nvml, now, fresh=reader.asked.key in fresh)
        return complaints

    def samples(self, taken_at_ms: int) -> Iterator[DeviceSample]:
        """One for each of its devices, of the values that :meth:`read` left."""
        if not self.gpu.is_divided:
            yield DeviceSample(uuid=self.gpu.uuid, taken_at_ms=taken_at_ms, **self._whole.values)
            return
        shared = {f: v for f, v in self._whole.values.items() if f in DIVIDED_FIELDS}
        for uuid, part in zip(self._uuids, self._parts, strict=True):
            yield DeviceSample(uuid=uuid, taken_at_ms=taken_at_ms, **shared, **part.values)

    def unsupported(self) -> dict[str, tuple[str, ...]]:
        """For each of its devices, the fields that it has no sensor for."""
        if not self.gpu.is_divided:
            return {self.gpu.uuid: self._whole.unsupported()}
        own = {field for sensor in MIG_SENSORS for field in sensor.fields}
        never = FIELDS - DIVIDED_FIELDS - own
        shared = never | (set(self._whole.unsupported()) & DIVIDED_FIELDS)
        return {
            uuid: tuple(sorted(shared.union(part.unsupported())))
            for uuid, part in zip(self._uuids, self._parts, strict=True)
        }

    def close(self, nvml: Nvml) -> None:
        """Free what NVML keeps for it."""
        for reader in (self._whole, *self._parts):
            reader.asked.gpm.close(nvml)

    def _check_division(self, nvml: Nvml) -> None:
        gpu, found = self.gpu, []
        if has_mig_on(nvml, gpu.uuid, gpu.handle):
            migs = mig_handles(nvml, gpu.uuid, gpu.handle)
            found = [nvml.ask_once(gpu.uuid, "nvmlDeviceGetUUID", mig) for mig in migs]
        elif not gpu.is_divided:
            return
        if sorted(map(str, found)) != sorted(self._uuids):
            raise RepartitionedError(gpu.uuid)


def _mig_reader(gpu: Gpu, part: Part, stagger: float) -> PacedReader:
    # GPM is asked of the GPU, with the number of the instance.
    asked = Asked(part.device.uuid, part.handle, GpmReader(gpu.handle, part.gpu_instance))
    return PacedReader(asked, MIG_SENSORS, stagger=stagger)
