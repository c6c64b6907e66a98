"""What an operator can set: environment variables ``STOWPLAN_*``, or options of `stowplan
serve`."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

MIB = 1 << 20


class Settings(BaseSettings):
    """Settings of one service process. Built once in ``main`` and passed down; nothing else reads
    them."""

    model_config = SettingsConfigDict(
        env_prefix="STOWPLAN_", env_ignore_empty=True, extra="ignore", frozen=True
    )

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8470
    home: Path = Path("~/.local/share/stowplan")
    """Where the embedded database and the token files live; created with mode 0700."""
    database_url: str | None = None
    """None: SQLite in ``home``. PostgreSQL:
    ``postgresql+psycopg://user:password@host/database``."""
    telemetry_url: str | None = None
    """None: the same PostgreSQL, or on SQLite a file of its own beside the other. May be another
    server: nothing joins the two."""
    user_token: SecretStr | None = None
    join_token: SecretStr | None = None
    """None: made at the first start and kept in ``home`` (user.token, join.token), mode 0600."""
    reusable_join_token: bool = True
    """Whether ``join_token`` lets machines join, any number of times. Without it only tokens of
    ``stowplan join-token create`` do."""
    log_level: str = "info"

    lease_seconds: Annotated[float, Field(ge=1, le=86_400)] = 300.0
    """A node that can't reach the service stops its tasks after this; only then are they placed
    elsewhere."""
    lease_margin_seconds: Annotated[float, Field(ge=0, le=3_600)] = 15.0
    """What the service waits beyond lease and grace before it believes that a node has stopped its
    tasks."""
    report_interval_seconds: Annotated[float, Field(ge=0.05, le=60)] = 2.0
    unreachable_after_seconds: Annotated[float, Field(ge=0.2, le=3_600)] = 15.0
    """A node silent for this long gets no new task; the tasks it runs stay its own."""
    desired_wait_seconds_max: Annotated[float, Field(ge=0, le=50)] = 30.0

    plan_seconds: Annotated[float, Field(gt=0, le=60)] = 2.0
    """Budget of one planning round."""
    plan_workers: Annotated[int, Field(ge=1, le=64)] = 2
    plan_debounce_seconds: Annotated[float, Field(ge=0, le=10)] = 0.05
    """How long a round waits for more news, so that a burst of submissions is one round."""
    eta_debounce_seconds: Annotated[float, Field(ge=0.1, le=3_600)] = 1.0
    """So long after news of tasks it's reckoned anew when those who wait start. Who asks about a
    task that came meanwhile needn't wait for that."""
    max_moves: Annotated[int, Field(ge=0, le=10_000)] = 8
    """So many running tasks, at most, may one round move or preempt. 0: nothing that runs is
    touched."""
    hold_gangs: Annotated[int, Field(ge=0, le=64)] = 8
    """For so many waiting gangs room is held until it's enough for them; 0: for none."""
    preempt_after_seconds: Annotated[float, Field(ge=0, le=86_400)] = 60.0
    """A task runs for at least so long before it's moved or preempted."""
    open_queues: bool = True
    """Whether a task may name a queue that nobody created: it's then one of weight 1 at the top."""
    usage_half_life_seconds: Annotated[float, Field(ge=1, le=1e9)] = 7 * 86_400.0
    """After so long, GPU time that a queue has held counts half."""
    solve_seconds_max: Annotated[float, Field(gt=0, le=3_600)] = 60.0
    solve_concurrency: Annotated[int, Field(ge=1, le=64)] = 1
    """How many ``POST /api/v1/solve`` run at once, beside the planning loop's own child process."""
    solve_queue: Annotated[int, Field(ge=0, le=1_000)] = 8

    body_bytes_max: Annotated[int, Field(ge=1024)] = 4 * MIB
    solve_body_bytes_max: Annotated[int, Field(ge=1024)] = 64 * MIB
    samples_body_bytes_max: Annotated[int, Field(ge=1024)] = 16 * MIB
    """Of a report of measurements once it's unpacked."""
    log_bytes_max: Annotated[int, Field(ge=64 * 1024)] = 8 * MIB
    """Of each allocation's output the newest bytes, up to this many, are kept."""
    samples_interval_seconds: Annotated[float, Field(ge=0.5, le=300)] = 5.0
    """How much time one row of measurements stands for, in a small fleet."""
    samples_per_second_max: Annotated[int, Field(ge=1)] = 200
    """Reports of measurements a second, and of state: in a large fleet the intervals grow."""
    samples_queue_rows: Annotated[int, Field(ge=1_000)] = 100_000
    """Rows that may wait to be written; beyond it agents are told to keep theirs."""
    samples_keep_hours: Annotated[float, Field(gt=0)] = 48.0
    minutes_keep_days: Annotated[float, Field(gt=0)] = 14.0
    hours_keep_days: Annotated[float, Field(gt=0)] = 730.0
    watch_interval_seconds: Annotated[float, Field(ge=1, le=3_600)] = 30.0
    """How often devices and tasks are judged by what is measured of them."""
    quarantine_rules: bool = True
    """Whether rules may keep tasks off a device. A person's word always may."""
    busy_percent: Annotated[float, Field(gt=0, le=100)] = 50.0
    """From this utilisation on a device is under load: only then its clocks tell anything."""
    throttled_seconds: Annotated[float, Field(ge=1)] = 600.0
    throttled_clear_seconds: Annotated[float, Field(ge=1)] = 1_800.0
    slow_seconds: Annotated[float, Field(ge=1)] = 600.0
    slow_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.75
    """Below this part of its peers' SM clock a device is slow."""
    unmanaged_seconds: Annotated[float, Field(ge=1)] = 60.0
    held_idle_seconds: Annotated[float, Field(ge=1)] = 600.0
    gone_idle_seconds: Annotated[float, Field(ge=1)] = 1_800.0
    """Where the numbers come from is in docs/telemetry.md."""
    plans_keep: Annotated[int, Field(ge=1)] = 1_000
    events_keep: Annotated[int, Field(ge=1)] = 100_000
    runs_keep: Annotated[int, Field(ge=1, le=200_000)] = 20_000
    """Of so many tasks it's kept how long they ran: what forecasts rest on."""

    @property
    def home_dir(self) -> Path:
        return self.home.expanduser().absolute()

    @property
    def resolved_database_url(self) -> str:
        return self.database_url or f"sqlite+aiosqlite:///{self.home_dir / 'stowplan.db'}"

    @property
    def resolved_telemetry_url(self) -> str:
        if self.telemetry_url is not None:
            return self.telemetry_url
        url = self.resolved_database_url
        if not url.startswith("sqlite"):
            return url
        base, dot, suffix = url.rpartition(".")
        return f"{base}-telemetry.{suffix}" if dot and "/" not in suffix else f"{url}-telemetry"
