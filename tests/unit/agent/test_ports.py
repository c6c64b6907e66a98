import socket
from collections.abc import Iterator

import pytest

from agent.ports import NoPortError, PortLeases


@pytest.fixture
def ports() -> Iterator[PortLeases]:
    ports = PortLeases(seed=1)
    yield ports
    ports.close()


def test_a_leased_port_is_kept_from_others_until_it_is_handed_over(ports: PortLeases) -> None:
    port = ports.lease()
    with socket.socket() as other:
        with pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))
        ports.hand_over(port)
        other.bind(("127.0.0.1", port))


def test_no_port_is_leased_twice_also_after_it_was_handed_over(ports: PortLeases) -> None:
    port = ports.lease()
    ports.hand_over(port)
    with pytest.raises(NoPortError, match="promised to the gang"):
        ports.lease(port)
    ports.release(port)
    assert ports.lease(port) == port


def test_a_port_in_use_by_somebody_else_is_passed_over() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        ports = PortLeases(first=taken, last=taken)
        with pytest.raises(NoPortError, match="all ports"):
            ports.lease()
        ports.close()


def test_a_port_of_an_adopted_task_is_not_leased_to_another(ports: PortLeases) -> None:
    port = ports.lease()
    ports.release(port)
    ports.adopt(port)
    with pytest.raises(NoPortError):
        ports.lease(port)
