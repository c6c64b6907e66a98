"""Hosts that can be cut off: each a network namespace on a bridge where that is permitted, else
on loopback, behind a relay of its own.
"""

import os
import secrets
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Protocol

_PREFIX_BITS = 24
_RELAY_BYTES = 1 << 16


class Network(Protocol):
    """Hosts by their names, and the service on the machine itself at ``port``."""

    environment: Mapping[str, str]
    """What a task of several hosts needs to find the way."""

    def server(self, host: str) -> str:
        """Where a host reaches the service."""
        ...

    def on(self, host: str) -> list[str]:
        """What a command on that host begins with."""
        ...

    def cut(self, host: str) -> None:
        """From now on nothing comes through, and nobody is told."""
        ...

    def mend(self, host: str) -> None: ...


class Namespaces:
    """A bridge with the machine on it, and a namespace a host. The service stays on loopback, where
    tests may reach it: a relay takes what comes over the bridge there.
    """

    environment: Mapping[str, str] = {"GLOO_SOCKET_IFNAME": "eth0"}

    def __init__(self, hosts: list[str], port: int) -> None:
        self._port = port
        self._id = secrets.token_hex(3)
        # A net of its own a run: several may run on one machine.
        self._net = f"10.{secrets.randbelow(50) + 200}.{secrets.randbelow(250) + 1}"
        self._bridge = f"swb{self._id}"
        self._hosts = {host: index for index, host in enumerate(hosts)}
        self._relay: _Relay | None = None

    def __enter__(self) -> "Namespaces":
        try:
            self._set_up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _set_up(self) -> None:
        _ip("link", "add", self._bridge, "type", "bridge")
        _ip("addr", "add", f"{self._net}.1/{_PREFIX_BITS}", "dev", self._bridge)
        _ip("link", "set", self._bridge, "up")
        self._relay = _Relay(self._port, f"{self._net}.1")
        for host, index in self._hosts.items():
            space, link = self._space(host), self._link(host)
            _ip("netns", "add", space)
            _ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", space)
            _ip("link", "set", link, "master", self._bridge, "up")
            address = f"{self._net}.{index + 10}/{_PREFIX_BITS}"
            _ip("-n", space, "addr", "add", address, "dev", "eth0")
            _ip("-n", space, "link", "set", "lo", "up")
            _ip("-n", space, "link", "set", "eth0", "up")

    def __exit__(self, *_: object) -> None:
        if self._relay is not None:
            self._relay.close()
        for host in self._hosts:
            for words in (("netns", "del", self._space(host)), ("link", "del", self._link(host))):
                with suppress(subprocess.CalledProcessError):
                    _ip(*words)
        with suppress(subprocess.CalledProcessError):
            _ip("link", "del", self._bridge)

    def _space(self, host: str) -> str:
        return f"sw-{self._id}-{host}"

    def _link(self, host: str) -> str:
        return f"sw{self._id}{self._hosts[host]}"

    def server(self, host: str) -> str:
        assert self._relay is not None
        return f"http://{self._net}.1:{self._relay.port}"

    def on(self, host: str) -> list[str]:
        # Not `ip netns exec`: that one also hides the control groups behind a /sys of its own.
        return ["nsenter", f"--net=/run/netns/{self._space(host)}"]

    def cut(self, host: str) -> None:
        _ip("link", "set", self._link(host), "down")

    def mend(self, host: str) -> None:
        _ip("link", "set", self._link(host), "up")


def namespaces_refused() -> str:
    """Why there can be no namespaces here; empty when there can."""
    if os.geteuid() != 0:
        return "not root"
    if missing := [name for name in ("ip", "nsenter") if shutil.which(name) is None]:
        return f"no {missing[0]} here"
    try:
        with Namespaces(["probe"], 0):
            return ""
    except subprocess.CalledProcessError as error:
        return f"{' '.join(error.cmd)}: {error.stderr.strip()}"


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=30)


class Relays:
    """All hosts are this machine; only the way to the service can be cut."""

    environment: Mapping[str, str] = {"GLOO_SOCKET_IFNAME": "lo"}

    def __init__(self, hosts: list[str], port: int) -> None:
        self._relays = {host: _Relay(port) for host in hosts}

    def __enter__(self) -> "Relays":
        return self

    def __exit__(self, *_: object) -> None:
        for relay in self._relays.values():
            relay.close()

    def server(self, host: str) -> str:
        return f"http://127.0.0.1:{self._relays[host].port}"

    def on(self, host: str) -> list[str]:
        return []

    def cut(self, host: str) -> None:
        self._relays[host].let_through(through=False)

    def mend(self, host: str) -> None:
        self._relays[host].let_through(through=True)


class _Relay:
    """Hands bytes on between whoever connects and one port."""

    def __init__(self, port: int, address: str = "127.0.0.1") -> None:
        self._upstream = ("127.0.0.1", port)
        self._listener = socket.create_server((address, 0))
        self.port = self._listener.getsockname()[1]
        self._through = True
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def let_through(self, *, through: bool) -> None:
        with self._lock:
            self._through = through
            if not through:
                for connection in self._open:
                    with suppress(OSError):
                        connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.let_through(through=False)
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                near, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with (
            near,
            suppress(OSError),
            socket.create_connection(self._upstream) as far,
        ):
            with self._lock:
                if not self._through:
                    return
                self._open |= {near, far}
            try:
                back = threading.Thread(target=_pump, args=(far, near), daemon=True)
                back.start()
                _pump(near, far)
                back.join()
            finally:
                with self._lock:
                    self._open -= {near, far}


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while part := source.recv(_RELAY_BYTES):
            target.sendall(part)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@contextmanager
def network(kind: str, hosts: list[str], port: int) -> Iterator[Network]:
    """``namespaces`` or ``relays``."""
    with (Namespaces if kind == "namespaces" else Relays)(hosts, port) as made:
        yield made
