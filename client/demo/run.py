"""The demo from start to end: what is started when, what is waited for, and the exit code."""

import importlib.util
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from client.demo.digits import load_held_out
from client.demo.interruption import Interruption
from client.demo.processes import Household
from client.demo.screen import LiveScreen, PlainScreen, Screen
from client.demo.story import Outcome, Story
from client.demo.summary import next_steps, summary_lines, summary_table
from client.errors import EXIT_DONE, EXIT_FAILED, StowplanError
from client.output import complain, print_table, say

if TYPE_CHECKING:
    from client.sdk import Client

_NEEDED = {"ortools": "server", "uvicorn": "server", "torch": "torch", "sklearn": "torch"}
_DEADLINE_SECONDS = 600.0
"""Ten times what it takes on two busy cores: beyond it something hangs, and that is told."""
_LOOK_AGAIN_SECONDS = 0.1


def run(*, stays: bool) -> int:
    """Play the demo; with ``stays`` the cluster is kept, after its summary, until Ctrl-C.

    Returns 0 when every task that fits did its work, 1 when one didn't, and 128 + the signal's
    number when a signal came before that was known.

    Raises:
        StowplanError: something that the demo needs isn't installed.
    """
    require_installed()
    interruption = Interruption()
    with Household() as house:
        try:
            return _Demo(house, interruption, stays=stays).run()
        except _InterruptedError:
            say("interrupted: ending all processes")
            return interruption.exit_code
        except StowplanError as error:
            complain(error)
            for name, tail in house.log_tails():
                say(f"--- the end of the {name}'s output ---\n{tail}")
            return EXIT_FAILED


def require_installed() -> None:
    """See that the service and torch are here.

    Raises:
        StowplanError: naming what is missing and how to get it.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        extras = ",".join(sorted({_NEEDED[name] for name in missing}))
        raise StowplanError(
            f"the demo needs {', '.join(missing)}: pip install 'stowplan[{extras}]'"
        )


class _InterruptedError(Exception):
    """A signal came. Raised by our own looks at it, never by the signal itself."""


class _Demo:
    def __init__(self, house: Household, interruption: Interruption, *, stays: bool) -> None:
        self._house = house
        self._interruption = interruption
        self._stays = stays
        self._deadline = time.monotonic() + _DEADLINE_SECONDS

    def run(self) -> int:
        held_out = load_held_out()
        self._house.start_service()
        server = self._await_server()
        self._house.start_agents(server)
        # Neither client is closed: threads that an interruption leaves behind may be using them.
        watching, acting = self._connect(server), self._connect(server)
        screen: Screen = LiveScreen(watching) if sys.stdout.isatty() else PlainScreen(watching)
        with screen:
            story = Story(
                acting,
                checkpoint_dir=self._house.checkpoint_dir,
                work_dir=self._house.work_dir,
                held_out=held_out,
                say=screen.say,
                interruption=self._interruption,
            )
            self._do(story.play)
            outcomes = story.outcomes()
            if not self._stays or _failed(outcomes):
                self._do(story.end)
                outcomes = story.outcomes()
        self._summarise(outcomes)
        if self._stays and not _failed(outcomes):
            self._stay(server, story.endpoint())
        return EXIT_FAILED if _failed(outcomes) else EXIT_DONE

    def _await_server(self) -> str:
        while (server := self._house.server_url()) is None:
            self._look()
        return server

    def _connect(self, server: str) -> "Client":
        from client.sdk import Client

        return Client(server, self._house.token_file.read_text().strip())

    def _do(self, work: Callable[[], None]) -> None:
        """Do blocking work beside a look-out for signals, dead processes and the deadline.

        The thread is left behind when one of them comes: its calls fail once the service ends.
        """
        errors: list[Exception] = []

        def guarded() -> None:
            try:
                work()
            except Exception as error:  # noqa: BLE001 - handed to the thread that waits
                errors.append(error)

        worker = threading.Thread(target=guarded, daemon=True)
        worker.start()
        while worker.is_alive():
            self._look()
        if errors:
            raise errors[0]

    def _look(self) -> None:
        if self._interruption.wait(_LOOK_AGAIN_SECONDS):
            raise _InterruptedError
        self._house.check()
        if time.monotonic() > self._deadline:
            raise StowplanError(f"the demo isn't done after {_DEADLINE_SECONDS:g} s")

    def _summarise(self, outcomes: list[Outcome]) -> None:
        print()
        print_table(summary_table(outcomes))
        print()
        for line in summary_lines(outcomes):
            print(line)

    def _stay(self, server: str, endpoint: str | None) -> None:
        print()
        for line in next_steps(server=server, home=self._house.home, endpoint=endpoint):
            print(line)
        while not self._interruption.wait(_LOOK_AGAIN_SECONDS):
            self._house.check()
        say("ending all processes")


def _failed(outcomes: list[Outcome]) -> bool:
    return any(outcome.problem for outcome in outcomes)
