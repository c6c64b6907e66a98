"""A service, two nodes and their disks, played step by step around the agent's real core.

The agent may die between any two steps of carrying its instructions out, a shim at any of its own;
desired sets come late, twice and in any order, answers to reports get lost. What runs is a matter
of the world's word, so a schedule costs milliseconds, and thousands are tried.
"""

import random
from collections.abc import Callable

from agent.events import Key, Moment
from tests.chaos.life import IDS, Life
from tests.chaos.played_node import Node
from tests.chaos.played_service import Service


class World:
    """All of it. What must never be raises AssertionError."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.seconds = 0.0
        self.lives: dict[Key, Life] = {}
        self.nodes = (Node(self, "n0"), Node(self, "n1"))
        self.service = Service(self)
        self.calm = False
        """At the end nobody dies any more."""
        for node in self.nodes:
            node.start()

    @property
    def at(self) -> Moment:
        return Moment(boot_seconds=self.seconds, wall_ms=int(self.seconds * 1000))

    def life(self, key: Key) -> Life:
        return self.lives.setdefault(key, Life())

    def run(self, steps: int) -> None:
        """Stumble on for so many steps, then let everything come to rest, and look."""
        for _ in range(steps):
            self._step()
        self._come_to_rest()

    def _step(self) -> None:
        service, rng = self.service, self.rng
        node = rng.choice(self.nodes)
        actions: list[tuple[int, Callable[[], object]]] = [
            (4, lambda: service.assign(rng.choice(IDS), node)),
            (1, lambda: service.stop(rng.choice(IDS))),
            (2, lambda: service.replace(rng.choice(IDS))),
            (8, lambda: node.deliver(newest=rng.random() < 0.6)),
            (6, lambda: node.report(lost=rng.random() < 0.2)),
            (12, node.work),
            (10, node.shims_work),
            (6, node.flow),
            (2, node.program_ends),
            (1, node.kill_a_shim),
            (2, node.crash_soon),
            (1, node.crash),
            (3, node.start),
            (4, lambda: self.pass_time(rng.choice((0.5, 1.0, 1.0, 1.0, 3.0, 15.0)))),
        ]
        [(_, action)] = rng.choices(actions, weights=[weight for weight, _ in actions])
        action()

    def pass_time(self, seconds: float) -> None:
        """Everybody has time to do what is due, as on a machine that isn't stuck."""
        until = self.seconds + seconds
        while self.seconds < until:
            self.seconds = min(until, self.seconds + 0.5)
            for node in self.nodes:
                node.tick()
                node.watch_leases()
            self.service.give_up_silent()

    def _come_to_rest(self) -> None:
        self.calm = True
        for node in self.nodes:
            node.crash_after = None
            node.start()
        for wanted in list(self.service.wanted):
            self.service.stop(wanted)
        for _ in range(40):
            for node in self.nodes:
                node.deliver(newest=True)
                node.work(all_of_it=True)
                node.shims_work(all_of_it=True)
                node.work(all_of_it=True)
                node.report(lost=False)
            self.pass_time(1.0)
        for node in self.nodes:
            alive = [key for key, files in node.disk.items() if files.shim_is_alive]
            assert not alive, f"left running on {node.name}: {alive}"
            assert not node.disk, f"left on the disk of {node.name}: {sorted(node.disk)}"
        assert not self.service.wanted, f"waited for in vain: {self.service.wanted}"
        for key, life in self.lives.items():
            self._judge(key, life)

    def _judge(self, key: Key, life: Life) -> None:
        """Every attempt that began has its exit, and the right one."""
        if not life.begun or life.given_up:
            return
        exit_ = life.recorded
        assert exit_ is not None, f"the exit of {key} is lost"
        if life.code is None or exit_.lost:
            assert life.shim_killed, f"{key} ended with {life.code}, recorded is {exit_}"
            assert exit_.lost, f"{key} didn't end by itself, recorded is {exit_}"
        else:
            assert exit_.code == life.code, f"{key} ended with {life.code}, recorded is {exit_}"

    def begins(self, key: Key, node: "Node") -> None:
        """The program of an attempt begins."""
        life = self.life(key)
        life.begun += 1
        assert life.begun == 1, f"{key} began {life.begun} times"
        beside = [
            (each.name, other)
            for each in self.nodes
            for other, files in each.disk.items()
            if other.id == key.id and other != key and files.program_is_alive
        ]
        assert not beside, f"{key} began on {node.name} beside {beside}"
