"""Network interfaces and InfiniBand ports one by one, and which interfaces count.

A packet of a container is counted for its veth, for the bridge, for a bond and for a member of it.
Only interfaces with hardware behind count: those that sysfs gives a ``device``. A container has
none; there the ends of links that lead out of it count. RDMA goes past the interfaces, so ports
count for themselves.
"""

from pathlib import Path

from telemetry.probes import procfs
from telemetry.samples import NetworkCounters

_LOOK_AGAIN_READS = 60
"""Speeds change with a cable, and each look takes a lock that the whole network uses."""
_WORD_BYTES = 4
"""InfiniBand counts words of four lanes."""


class NetworkReader:
    """The interfaces of this network namespace that count, and their speeds."""

    def __init__(self, root: Path) -> None:
        self._counters = str(root / "proc/net/dev")
        self._folder = root / "sys/class/net"
        self._names: frozenset[str] = frozenset()
        self._speeds_mbps: dict[str, int | None] = {}
        self._reads_left = 0

    def read(self) -> tuple[NetworkCounters, ...]:
        """In the kernel's order."""
        rows = {}
        for line in (procfs.text(self._counters) or "").splitlines():
            name, colon, words = line.partition(":")
            if colon and len(counts := words.split()) >= 12:
                rows[name.strip()] = [int(count) for count in counts]
        self._reads_left -= 1
        if rows.keys() != self._names or self._reads_left <= 0:
            self._names, self._reads_left = frozenset(rows), _LOOK_AGAIN_READS
            self._speeds_mbps = {name: self._speed_mbps(name) for name in self._counted(rows)}
        return tuple(
            NetworkCounters(
                name=name,
                received_bytes=row[0],
                sent_bytes=row[8],
                errors=row[2] + row[10],
                drops=row[3] + row[11],
                speed_mbps=self._speeds_mbps[name],
            )
            for name, row in rows.items()
            if name in self._speeds_mbps
        )

    def fastest_mbps(self) -> int:
        """Of the links that are up; 0 where no driver tells (virtual machines)."""
        speeds = (
            network.speed_mbps or 0
            for network in self.read()
            if procfs.text(self._folder / network.name / "operstate") in {"up", "unknown"}
        )
        return max(speeds, default=0)

    def _counted(self, names: dict[str, list[int]]) -> list[str]:
        others = [name for name in names if name != "lo"]
        if not self._folder.is_dir():
            return others
        hardware = [name for name in others if (self._folder / name / "device").exists()]
        return hardware or [name for name in others if self._leads_out(name)]

    def _leads_out(self, name: str) -> bool:
        """True for an end of a link whose other end is in another namespace, or on no interface of
        this one: a container's eth0, but no bridge, VLAN, bond or dummy.
        """
        folder = self._folder / name
        link, index = procfs.text(folder / "iflink"), procfs.text(folder / "ifindex")
        on_another = any(entry.startswith("lower_") for entry in procfs.names(folder))
        return link != index and not on_another

    def _speed_mbps(self, name: str) -> int | None:
        return procfs.number(self._folder / name / "speed") or None  # -1: no link; 0: nobody knows


class InfinibandReader:
    """The ports of RDMA adapters, RoCE included. Counters don't tell whose traffic it was."""

    def __init__(self, root: Path) -> None:
        self._folder = root / "sys/class/infiniband"

    def read(self) -> tuple[NetworkCounters, ...]:
        """Named ``mlx5_0/1``: adapter and port."""
        return tuple(
            counters
            for adapter in procfs.names(self._folder)
            for port in procfs.names(self._folder / adapter / "ports")
            if (counters := self._port(adapter, port)) is not None
        )

    def _port(self, adapter: str, port: str) -> NetworkCounters | None:
        folder = f"{self._folder}/{adapter}/ports/{port}"
        received = procfs.number(f"{folder}/counters/port_rcv_data")
        sent = procfs.number(f"{folder}/counters/port_xmit_data")
        if received is None or sent is None:
            return None
        gigabits = (procfs.text(f"{folder}/rate") or "").split(" ", 1)[0]  # 200 Gb/sec (4X HDR)
        return NetworkCounters(
            name=f"{adapter}/{port}",
            received_bytes=received * _WORD_BYTES,
            sent_bytes=sent * _WORD_BYTES,
            errors=procfs.number(f"{folder}/counters/port_rcv_errors"),
            drops=procfs.number(f"{folder}/counters/port_xmit_discards"),
            speed_mbps=_megabits(gigabits),
        )


def _megabits(gigabits: str) -> int | None:
    try:
        return int(float(gigabits) * 1000)
    except ValueError:
        return None
