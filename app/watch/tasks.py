"""Judges tasks by what is measured of them: which hold devices for nothing, and since when."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from app.db.samples.looks import Key, Look, Looks
from app.db.samples.tables import Kind
from app.findings import FindingKind
from app.metrics.live import Live
from app.streaks import GAP_MS, Streak, follow
from app.turns import in_turns

_COLUMNS = ("gpu_process_peak_count", "gpu_utilization_peak_percent")


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """An allocation that holds devices."""

    allocation: str
    node: str
    gpus: float
    """How many devices' worth of share it holds."""

    @property
    def series(self) -> Key:
        return self.node, self.allocation


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    kind: FindingKind
    since_ms: int
    gpu_hours: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """What is known of a task now."""

    idle: Idle | None
    works: bool
    """Known to work: False is also "nothing is known"."""


@dataclass(slots=True)
class _Quiet:
    """For how long a replica has had no process on its devices, and done no work there."""

    no_process: Streak | None = None
    no_work: Streak | None = None
    worked: bool = False

    @property
    def until_ms(self) -> int | None:
        times = [s.until_ms for s in (self.no_process, self.no_work) if s is not None]
        return max(times, default=None)

    def follow(self, looks: Sequence[Look]) -> None:
        quiet = [(at_ms, _does_no_work(values)) for at_ms, values in looks]
        self.no_work = follow(self.no_work, quiet)
        self.no_process = follow(
            self.no_process, ((at_ms, _has_no_process(values)) for at_ms, values in looks)
        )
        self.worked |= any(value is False for _, value in quiet)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """See the settings of the same names."""

    held_idle_seconds: float
    gone_idle_seconds: float


def _has_no_process(values: Sequence[float | None]) -> bool | None:
    return None if values[0] is None else values[0] == 0


def _does_no_work(values: Sequence[float | None]) -> bool | None:
    processes, utilization = values
    if processes == 0:
        return True
    return None if processes is None or utilization is None else utilization == 0


@dataclass(slots=True)
class TaskWatch:
    """Remembers since when each replica has been quiet; of a new one it learns that from rows."""

    live: Live
    looks: Looks
    patience: Patience
    _quiet: dict[Key, _Quiet] = field(default_factory=dict)

    async def judge(
        self, tasks: Mapping[str, Collection[Replica]], *, now_ms: int
    ) -> dict[str, Activity]:
        """By task. What isn't measured is neither idle nor at work."""
        replicas = [replica for gang in tasks.values() for replica in gang]
        there = {replica.series for replica in replicas}
        for key in self._quiet.keys() - there:
            del self._quiet[key]
        newest: dict[Key, Look] = {}
        async for replica in in_turns(replicas):
            reading = self.live.reading(Kind.TASK, *replica.series, now_ms=now_ms)
            if reading is not None:
                values = tuple(map(reading.get, _COLUMNS))
                newest[replica.series] = (reading.taken_at_ms, values)
        await self._follow_rows(newest, now_ms)
        return {
            task: await self._activity(gang, newest, now_ms)
            async for task, gang in in_turns(tasks.items())
        }

    async def _follow_rows(self, newest: Mapping[Key, Look], now_ms: int) -> None:
        longest = max(self.patience.held_idle_seconds, self.patience.gone_idle_seconds)
        window_ms = round(longest * 1000) + GAP_MS
        after_ms = {}
        async for key, look in in_turns(newest.items()):
            quiet = _does_no_work(look[1])
            if quiet is False:  # no row is read of a task that works
                self._quiet.setdefault(key, _Quiet()).follow([look])
            elif quiet:
                known = self._quiet.get(key)
                until_ms = None if known is None else known.until_ms
                after_ms[key] = now_ms - window_ms if until_ms is None else until_ms
        rows = await self.looks.since(Kind.TASK, after_ms, _COLUMNS)
        async for key, looks in in_turns(rows.items()):
            self._quiet.setdefault(key, _Quiet()).follow(looks)

    async def _activity(
        self,
        gang: Collection[Replica],
        newest: Mapping[Key, Look],
        now_ms: int,
    ) -> Activity:
        looks = {r.series: newest[r.series][1] for r in gang if r.series in newest}
        quiet = []
        async for replica in in_turns(gang):
            if replica.series in looks:
                found = await self._idle_since(replica, looks[replica.series])
                if found is not None:
                    quiet.append((replica, *found))
        if not quiet:
            works = any(_does_no_work(values) is False for values in looks.values())
            return Activity(idle=None, works=works)
        held = any(kind is FindingKind.HELD_BUT_IDLE for _, kind, _ in quiet)
        kind = FindingKind.HELD_BUT_IDLE if held else FindingKind.GONE_IDLE
        since_ms = min(since_ms for _, _, since_ms in quiet)
        hours = sum(replica.gpus * (now_ms - at_ms) / 3_600_000 for replica, _, at_ms in quiet)
        who = "" if len(quiet) == len(gang) else f"{len(quiet)} of {len(gang)} replicas: "
        what = "no process on its GPUs" if held else "its processes do no work on its GPUs"
        minutes = (now_ms - since_ms) / 60_000
        text = f"{who}{what} for {minutes:.0f} min, {hours:.1f} GPU-hours so far"
        return Activity(
            idle=Idle(kind=kind, since_ms=since_ms, gpu_hours=hours, text=text), works=False
        )

    async def _idle_since(
        self, replica: Replica, newest: Sequence[float | None]
    ) -> tuple[FindingKind, int] | None:
        known = self._quiet.get(replica.series)
        if known is None or _does_no_work(newest) is not True:
            return None
        held, still = known.no_process, known.no_work
        if held is not None and held.has_been(True, self.patience.held_idle_seconds):
            return FindingKind.HELD_BUT_IDLE, held.since_ms
        if (
            still is not None
            and still.has_been(True, self.patience.gone_idle_seconds)
            and not _has_no_process(newest)
            and await self._has_worked(replica.series, known)
        ):
            return FindingKind.GONE_IDLE, still.since_ms
        return None

    async def _has_worked(self, key: Key, known: _Quiet) -> bool:
        if not known.worked:
            most = await self.looks.most_ever(Kind.TASK, key, _COLUMNS[1])
            known.worked = most is not None and most > 0
        return known.worked
