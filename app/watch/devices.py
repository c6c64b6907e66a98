"""Judges devices by what is measured of them: the rules of app/quarantine, fed with rows."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from app.db.samples.looks import Key, Looks
from app.db.samples.tables import Kind
from app.metrics.live import Live, Reading
from app.quarantine import rules
from app.quarantine.rules import Code, Thresholds, Verdict
from app.quarantine.service import DeviceKey, Place
from app.streaks import GAP_MS, Streak, follow, only_after
from app.turns import in_turns

_LASTING = (Code.THROTTLED, Code.UNMANAGED)
"""Told by how long rows have been so."""
_COLUMNS = ("throttle_reasons", "utilization_percent", "foreign_process_count")


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A device to judge. ``codes``: what it's quarantined for already."""

    place: Place
    model: str
    codes: frozenset[Code] = frozenset()
    released_ms: Mapping[Code, int]
    """When it was last released from each: what was before has been judged."""
    unreleased_ms: int | None = None
    """Since when something that a task left is on it."""

    @property
    def series(self) -> Key:
        return self.place.node, self.place.uuid


class DeviceWatch:
    """Remembers since when each device has been as it is; a new one learns that from rows."""

    def __init__(self, live: Live, looks: Looks, limits: Thresholds) -> None:
        self._live = live
        self._looks = looks
        self._limits = limits
        self._streaks: dict[tuple[Key, Code], Streak] = {}
        self._let_pass: dict[tuple[Key, str], tuple[int, float]] = {}

    async def judge(
        self,
        devices: Collection[Watched],
        gangs: Collection[Collection[DeviceKey]],
        *,
        now_ms: int,
    ) -> list[tuple[Watched, Verdict]]:
        """Verdicts that change something: a fault that is new, or the end of one. ``gangs`` are the
        devices of each running task."""
        known = {watched.place.key: watched for watched in devices}
        self._forget_others(known.values())
        readings: dict[DeviceKey, Reading] = {}
        async for key, watched in in_turns(known.items()):
            reading = self._live.reading(Kind.DEVICE, *watched.series, now_ms=now_ms)
            if reading is not None:
                readings[key] = reading
        await self._follow_rows(known, readings, now_ms)
        paces = await self._compare(known, readings, gangs)
        verdicts = []
        async for key, reading in in_turns(readings.items()):
            watched = known[key]
            slow_for = self._streaks.get((watched.series, Code.SLOW))
            said = (
                *await self._memory(watched, reading, now_ms),
                self._throttled(watched, reading),
                self._unmanaged(watched, reading),
                self._unreleased(watched, reading),
                rules.slow(slow_for, paces.get(key), self._limits),
            )
            verdicts += [
                (watched, verdict)
                for verdict in said
                if verdict is not None and verdict.faulty is not (verdict.code in watched.codes)
            ]
        return verdicts

    def _forget_others(self, devices: Collection[Watched]) -> None:
        there = {watched.series for watched in devices}
        for of in [of for of in self._streaks if of[0] not in there]:
            del self._streaks[of]
        for of in [of for of in self._let_pass if of[0] not in there]:
            del self._let_pass[of]

    # What lasts: heat, and strangers.

    async def _follow_rows(
        self,
        known: Mapping[DeviceKey, Watched],
        readings: Mapping[DeviceKey, Reading],
        now_ms: int,
    ) -> None:
        after_ms: dict[Key, int] = {}
        async for key, reading in in_turns(readings.items()):
            watched = known[key]
            for code in _LASTING:
                of = (watched.series, code)
                released_ms = watched.released_ms.get(code, 0)
                streak = only_after(self._streaks.pop(of, None), released_ms)
                newest = self._is_so(code, tuple(map(reading.get, _COLUMNS)))
                going_on = streak is not None and streak.value
                if not newest and not going_on and code not in watched.codes:
                    continue  # nothing to count: no row is read of a device that is well
                if streak is not None:
                    self._streaks[of] = streak
                start = now_ms - self._window_ms(code) if streak is None else streak.until_ms
                start = max(start, released_ms)
                after_ms[watched.series] = min(start, after_ms.get(watched.series, start))
        rows = await self._looks.since(Kind.DEVICE, after_ms, _COLUMNS)
        async for key in in_turns(readings):
            watched = known[key]
            for code in _LASTING if watched.series in after_ms else ():
                released_ms = watched.released_ms.get(code, 0)
                streak = follow(
                    self._streaks.get((watched.series, code)),
                    (
                        (at_ms, self._is_so(code, values))
                        for at_ms, values in rows.get(watched.series, ())
                        if at_ms > released_ms
                    ),
                )
                if streak is not None:
                    self._streaks[watched.series, code] = streak

    def _is_so(self, code: Code, values: Sequence[float | None]) -> bool | None:
        reasons, utilization, strangers = values
        if code is Code.THROTTLED:
            return rules.is_throttled(reasons, utilization, self._limits)
        return None if strangers is None else strangers > 0

    def _window_ms(self, code: Code) -> int:
        limits = self._limits
        seconds = (
            max(limits.throttled_seconds, limits.throttled_clear_seconds)
            if code is Code.THROTTLED
            else limits.unmanaged_seconds
        )
        return round(seconds * 1000) + GAP_MS

    def _throttled(self, watched: Watched, reading: Reading) -> Verdict | None:
        return rules.throttled(
            self._streaks.get((watched.series, Code.THROTTLED)),
            reasons=reading.get("throttle_reasons"),
            celsius=reading.get("temperature_celsius"),
            limits=self._limits,
        )

    def _unmanaged(self, watched: Watched, reading: Reading) -> Verdict | None:
        return rules.unmanaged(
            self._streaks.get((watched.series, Code.UNMANAGED)),
            processes=reading.get("foreign_process_count"),
            memory_mib=reading.get("foreign_memory_mib"),
            limits=self._limits,
        )

    def _unreleased(self, watched: Watched, reading: Reading) -> Verdict | None:
        since_ms = watched.unreleased_ms
        # A row may reach back into the time when the task was there: then nobody was a stranger.
        patience_ms = self._limits.unmanaged_seconds * 1000
        if since_ms is None or reading.taken_at_ms - since_ms < patience_ms:
            return None
        return rules.unreleased(
            processes=reading.get("process_count"),
            strangers=reading.get("foreign_process_count"),
            memory_mib=reading.get("memory_used_mib"),
        )

    # What is counted: memory errors and repairs.

    async def _memory(
        self, watched: Watched, reading: Reading, now_ms: int
    ) -> Sequence[Verdict | None]:
        ecc, pending, failed = (
            reading.get(name)
            for name in ("ecc_uncorrected", "memory_repair_pending", "memory_repair_failed")
        )
        passed = [
            await self._passed(watched, code, name, value, now_ms)
            for code, name, value in (
                (Code.ECC, "ecc_uncorrected", ecc),
                (Code.MEMORY_REPAIR, "memory_repair_pending", pending),
                (Code.MEMORY_REPAIR, "memory_repair_failed", failed),
            )
        ]
        return (
            rules.ecc(ecc, acknowledged=passed[0]),
            rules.memory_repair(
                pending, failed, acknowledged_pending=passed[1], acknowledged_failed=passed[2]
            ),
        )

    async def _passed(
        self, watched: Watched, code: Code, column: str, value: float | None, now_ms: int
    ) -> float:
        """What the device was released with: the least since then. Where nothing has been measured
        since the release, all there is."""
        released_ms = watched.released_ms.get(code)
        if released_ms is None or not value or code in watched.codes:
            return 0.0
        at_ms, least = self._let_pass.get((watched.series, column), (None, None))
        if at_ms != released_ms or least is None:
            least = await self._looks.least_since(
                watched.series, column, released_ms, now_ms=now_ms
            )
            if least is None:
                return value
        least = min(least, value)
        self._let_pass[watched.series, column] = (released_ms, least)
        return least

    # What is compared: ranks of one task.

    async def _compare(
        self,
        known: Mapping[DeviceKey, Watched],
        readings: Mapping[DeviceKey, Reading],
        gangs: Collection[Collection[DeviceKey]],
    ) -> Mapping[DeviceKey, rules.Pace]:
        found = {}
        async for peers in in_turns(_peers(known, readings, gangs)):
            names = {f"{key[0]}/{key[1]}": key for key in peers}
            measured = [
                (
                    name,
                    readings[key].get("clock_sm_mhz"),
                    readings[key].get("utilization_percent"),
                )
                for name, key in names.items()
            ]
            async for pace in in_turns(rules.paces(measured, self._limits)):
                key = names[pace.device]
                watched = known[key]
                of = (watched.series, Code.SLOW)
                released_ms = watched.released_ms.get(Code.SLOW, 0)
                look = (readings[key].taken_at_ms, rules.is_slow(pace, self._limits))
                streak = follow(
                    only_after(self._streaks.pop(of, None), released_ms),
                    [look] if look[0] > released_ms else [],
                )
                if streak is not None:
                    self._streaks[of] = streak
                found[key] = pace
        return found


def _peers(
    known: Mapping[DeviceKey, Watched],
    readings: Mapping[DeviceKey, Reading],
    gangs: Collection[Collection[DeviceKey]],
) -> Iterator[Sequence[DeviceKey]]:
    for gang in gangs:
        of_model: dict[str, list[DeviceKey]] = defaultdict(list)
        for key in gang:
            if key in readings:
                of_model[known[key].model].append(key)
        yield from of_model.values()
