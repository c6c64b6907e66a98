"""Which interfaces and ports count, and how."""

from pathlib import Path

from telemetry.probes.host import HostReader
from telemetry.probes.networks import InfinibandReader, NetworkReader
from telemetry.samples import NetworkCounters
from tests.machine import LEAST, machine

HEADER = "Inter-|   Receive  |  Transmit\n face |bytes packets errs drop |bytes\n"


def interfaces(root: Path, **received: int) -> Path:
    rows = [
        f"{name.replace('_', '-'):>6}: {count} 9 1 2 0 0 0 0 {count * 10} 9 3 4 0 0 0 0\n"
        for name, count in received.items()
    ]
    return machine(root, {"proc/net/dev": HEADER + "".join(rows)})


def describe(root: Path, name: str, *, index: int, link: int, **files: str) -> None:
    folder = f"sys/class/net/{name}"
    machine(root, {f"{folder}/ifindex": f"{index}\n", f"{folder}/iflink": f"{link}\n"})
    machine(root, {f"{folder}/{file}": f"{text}\n" for file, text in files.items()})


def hardware(root: Path, name: str, *, index: int, speed: str, state: str = "up") -> None:
    describe(root, name, index=index, link=index, speed=speed, operstate=state)
    (root / "sys/class/net" / name / "device").mkdir(exist_ok=True)


def test_hardware_counts_once_whatever_is_built_on_it(tmp_path: Path) -> None:
    interfaces(tmp_path, lo=1, eth0=10, bond0=10, br_lan=10, veth1=10, eth1=20)
    hardware(tmp_path, "eth0", index=2, speed="25000")
    hardware(tmp_path, "eth1", index=3, speed="-1", state="down")
    for index, name in enumerate(("bond0", "br-lan", "veth1"), start=4):
        describe(tmp_path, name, index=index, link=index)
    assert NetworkReader(tmp_path).read() == (
        NetworkCounters(
            name="eth0", received_bytes=10, sent_bytes=100, errors=4, drops=6, speed_mbps=25000
        ),
        NetworkCounters(name="eth1", received_bytes=20, sent_bytes=200, errors=4, drops=6),
    )


def test_container_counts_the_links_that_lead_out_of_it(tmp_path: Path) -> None:
    interfaces(tmp_path, lo=1, eth0=10, vlan5=10, docker0=10, dummy0=0)
    describe(tmp_path, "lo", index=1, link=1)
    describe(tmp_path, "eth0", index=2, link=77, speed="10000")
    describe(tmp_path, "vlan5", index=3, link=2, lower_eth0="")
    describe(tmp_path, "docker0", index=4, link=4)
    describe(tmp_path, "dummy0", index=5, link=5)
    [eth0] = NetworkReader(tmp_path).read()
    assert (eth0.name, eth0.speed_mbps) == ("eth0", 10000)


def test_all_but_the_loopback_count_where_sysfs_is_hidden(tmp_path: Path) -> None:
    reader = NetworkReader(interfaces(tmp_path, lo=1, eth0=10, eth1=20))
    assert [network.name for network in reader.read()] == ["eth0", "eth1"]


def test_interface_that_comes_later_is_seen(tmp_path: Path) -> None:
    reader = NetworkReader(interfaces(tmp_path, lo=1, eth0=10))
    reader.read()
    interfaces(tmp_path, lo=1, usb0=5)
    assert [network.name for network in reader.read()] == ["usb0"]


def test_speed_of_a_node_is_that_of_its_fastest_link_that_is_up(tmp_path: Path) -> None:
    interfaces(tmp_path, eth0=1, eth1=1, eth2=1)
    hardware(tmp_path, "eth0", index=2, speed="1000")
    hardware(tmp_path, "eth1", index=3, speed="10000")
    hardware(tmp_path, "eth2", index=4, speed="100000", state="down")
    assert NetworkReader(tmp_path).fastest_mbps() == 10000
    assert NetworkReader(tmp_path / "nowhere").fastest_mbps() == 0


def infiniband(root: Path) -> Path:
    for port, received in (("mlx5_0/ports/1", 1000), ("mlx5_1/ports/1", 20)):
        folder = f"sys/class/infiniband/{port}"
        machine(
            root,
            {
                f"{folder}/rate": "200 Gb/sec (4X HDR)\n",
                f"{folder}/counters/port_rcv_data": f"{received}\n",
                f"{folder}/counters/port_xmit_data": "5\n",
                f"{folder}/counters/port_rcv_errors": "7\n",
                f"{folder}/counters/port_xmit_discards": "8\n",
            },
        )
    (root / "sys/class/infiniband/mlx5_2/ports/1").mkdir(parents=True)
    return root


def test_infiniband_counts_words_of_four_bytes(tmp_path: Path) -> None:
    first, second = InfinibandReader(infiniband(tmp_path)).read()
    assert first == NetworkCounters(
        name="mlx5_0/1",
        received_bytes=4000,
        sent_bytes=20,
        errors=7,
        drops=8,
        speed_mbps=200_000,
    )
    assert second.received_bytes == 80


def test_infiniband_is_summed_apart_from_the_network(tmp_path: Path) -> None:
    machine(infiniband(tmp_path), LEAST)
    interfaces(tmp_path, lo=1, eth0=10)
    found = HostReader(disk=tmp_path, root=tmp_path).sample()
    assert (found.infiniband_received_bytes, found.infiniband_sent_bytes) == (4080, 40)
    assert (found.network_received_bytes, found.network_sent_bytes) == (10, 100)
    assert (found.network_errors, found.network_drops) == (4, 6)
    assert [network.name for network in found.networks] == ["eth0", "mlx5_0/1", "mlx5_1/1"]
