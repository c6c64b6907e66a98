"""What this node knows of its devices when a task is to be started on them."""

from collections.abc import Callable, Collection, Mapping

from agent.devices.mps import pipe_directory
from agent.devices.shares import Offer, is_whole, node_labels
from agent.devices.torch_options import understands_fraction
from agent.samples.sights import Sight
from protocol.desired import DesiredAllocation
from telemetry.samples import Inventory


class NodeDevices:
    """``sight`` gives the newest look at this machine, None before the first."""

    def __init__(
        self,
        *,
        sight: Callable[[], Sight | None],
        mps_pipe_directory: str,
        allocator_fraction: bool,
    ) -> None:
        self._sight = sight
        self._mps_pipe_directory = mps_pipe_directory
        self._allocator_fraction = allocator_fraction

    def labels(self, inventory: Inventory) -> dict[str, str]:
        """How this node keeps shares of a device apart, as a label of it."""
        return node_labels(
            inventory.devices, has_mps=lambda device: self._mps_pipe(device) is not None
        )

    def offer(self, allocation: DesiredAllocation, environment: Mapping[str, str]) -> Offer:
        """What can be done for an allocation whose program has this environment."""
        sight = self._sight()
        known = {device.uuid: device for device in sight.inventory.devices} if sight else {}
        own = [known[device] for device in allocation.devices if device in known]
        is_share = not is_whole(allocation)
        real = [device for device in own if not device.simulated]
        return Offer(
            memory_mib={device.uuid: device.memory_mib for device in own},
            mig=frozenset(device.uuid for device in own if device.parent is not None),
            mps_pipe_directory=self._mps_pipe(real[0].uuid) if is_share and real else None,
            allocator_fraction=is_share
            and self._allocator_fraction
            and bool(real)
            and understands_fraction(allocation.launch.argv[0], environment),
        )

    def memory_used_mib(self, devices: Collection[str]) -> dict[str, int | None]:
        """As it was last seen: what to come back to once an attempt is over."""
        sight = self._sight()
        samples = sight.devices if sight else {}
        return {
            device: samples[device].memory_used_mib if device in samples else None
            for device in devices
        }

    def _mps_pipe(self, device: str) -> str | None:
        return pipe_directory(self._mps_pipe_directory, device)
