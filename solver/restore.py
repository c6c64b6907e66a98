"""Nothing moves without gain: whoever can go back to where it ran goes back.

For any answer of any back end. A search that is blind to what a move costs, or was cut short,
leaves tasks elsewhere whose old place is free, or changes the places of two that are alike.
"""

from solver.check import slot_violations
from solver.deadline import Deadline
from solver.greedy import Answer
from solver.objective import TermName
from solver.occupancy import occupied
from solver.problem import Problem, Slot, Task
from solver.score import is_touched, score_slots

MOST_TOGETHER = 8
"""Tasks that go back at once, each to a place that the next one frees."""
MOST_CHECKED = 400_000
"""Tasks and nodes looked at by full checks, over all: seconds at most, without a deadline too."""
QUICKLY_CHECKED = 2_000
"""Tasks and nodes of a problem that is checked in milliseconds, for which there is always time."""
ALLOWANCE_SECONDS = 0.1


def put_back(problem: Problem, answer: Answer, deadline: Deadline | None = None) -> Answer:
    """The answer with moved and evicted tasks where they ran, as far as no rule is broken by it and
    the objective isn't worse. The same answer when it breaks a rule itself.
    """
    restorer = _Restorer(problem, answer, deadline)
    while restorer.restore():
        pass
    return restorer.answer


class _Restorer:
    def __init__(self, problem: Problem, answer: Answer, deadline: Deadline | None) -> None:
        self.problem = problem
        self.answer = answer
        self.deadline = deadline
        size = 1 + len(problem.tasks) + len(problem.nodes)
        self.checks_left = MOST_CHECKED // size
        self.allowance_seconds = ALLOWANCE_SECONDS if size <= QUICKLY_CHECKED else 0.0
        self.worth: tuple[int, ...] | None = None

    def restore(self) -> bool:
        """One pass over all that is touched; True when anything went back."""
        self.touched = {
            task.id: task
            for task in self.problem.tasks
            if is_touched(task, self.answer.get(task.id, ()))
        }
        if not self.touched:
            return False
        self.occupancy = occupied(self.problem, self.answer)
        # Where there are few, one at a time: who is refused then stands in nobody's way.
        one_by_one = 2 * len(self.touched) <= self.checks_left
        back: list[list[Task]] = []
        gone: set[str] = set()
        for task in sorted(self.touched.values(), key=self._urgency):
            together = [] if task.id in gone else self._go_back(task, gone)
            if one_by_one and together and not self._accept([together]):
                self._stay(together)
            elif together:
                back.append(together)
                gone |= {one.id for one in together}
        return bool(back) and (one_by_one or self._accept(back))

    def _urgency(self, task: Task) -> tuple[int, ...]:
        """Evicted before moved, urgent and large before others, dear before cheap."""
        runs = bool(self.answer.get(task.id))
        weight = len(task.placed) * task.request.weight
        return runs, -task.priority, -task.move_cost if runs else -weight

    def _home(self, task: Task) -> tuple[Slot, ...]:
        """Where it ran, and what it has gained beyond that."""
        slots = self.answer.get(task.id, ())
        gained = len(slots) - len(task.placed)
        before = [slot.key for slot in task.placed]
        new = tuple(slot for slot in slots if slot.key not in before)
        return task.placed + new[: max(0, gained)]

    def _go_back(self, task: Task, gone: set[str]) -> list[Task]:
        """Sends the task home, and those moved to its place; none if that isn't enough."""
        together = [task]
        self._set(task, self._home(task))
        for one in together:
            while (crowd := self._crowd(one)) is not None:
                other = next(
                    (
                        found
                        for name in crowd
                        if (found := self.touched.get(name)) is not None
                        and found not in together
                        and name not in gone
                    ),
                    None,
                )
                if other is None or len(together) == MOST_TOGETHER:
                    self._stay(together)
                    return []
                together.append(other)
                self._set(other, self._home(other))
        return together

    def _stay(self, tasks: list[Task]) -> None:
        for task in tasks:
            self._set(task, self.answer.get(task.id, ()))

    def _crowd(self, task: Task) -> list[str] | None:
        """Who runs where the task has no room or is not to meet them; None where all is well."""
        occupancy, request = self.occupancy, task.request
        for slot in task.placed:
            users = [name for name, count in occupancy.on_node[slot.node].items() if count]
            if any(
                left < 0 and getattr(request, name)
                for name, left in occupancy.free[slot.node].items()
            ):
                return users
            apart = occupancy.separated.get(task.id, ())
            if meets := [name for name in users if name in apart]:
                return meets
            for device in slot.devices:
                over = occupancy.free_milli[slot.node][device] < 0 or (
                    request.gpu_memory_mib and occupancy.free_memory_mib[slot.node][device] < 0
                )
                if over:
                    return [name for name in users if self._holds(name, slot.node, device)]
        return None

    def _holds(self, task: str, node: str, device: str) -> bool:
        slots = self.occupancy.slots.get(task, ())
        return any(slot.node == node and device in slot.devices for slot in slots)

    def _accept(self, back: list[list[Task]]) -> bool:
        """Takes all of it if that is right and no worse, else each half that is; True for any."""
        if self.checks_left <= 0 or (
            self.deadline is not None
            and self.deadline.is_over(allowance_seconds=self.allowance_seconds)
        ):
            return False
        self.checks_left -= 1
        trial = dict(self.answer)
        for task in (task for together in back for task in together):
            trial[task.id] = self._home(task)
        if self.worth is None:
            self.worth = _worth(self.problem, self.answer)
        worth = _worth(self.problem, trial)
        if worth >= self.worth and not slot_violations(self.problem, trial):
            self.answer, self.worth = trial, worth
            return True
        if len(back) == 1:
            return False
        half = len(back) // 2
        return any([self._accept(back[:half]), self._accept(back[half:])])

    def _set(self, task: Task, slots: tuple[Slot, ...]) -> None:
        for slot in list(self.occupancy.slots.get(task.id, ())):
            self.occupancy.remove(task, slot)
        for slot in slots:
            self.occupancy.add(task, slot)


def _worth(problem: Problem, answer: Answer) -> tuple[int, ...]:
    """The objective with costs negated, so that more is better."""
    return tuple(
        entry.value if entry.name == TermName.PLACED else -entry.value
        for entry in score_slots(problem, answer)
    )
