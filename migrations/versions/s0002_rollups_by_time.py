"""Minutes and hours can be found by time alone: a fleet's sums ask for a day of all series."""

from alembic import op

revision = "s0002"
down_revision = "s0001"
branch_labels = None
depends_on = None

_TABLES = [
    f"{kind}_{resolution}"
    for kind in ("host", "device", "task")
    for resolution in ("minutes", "hours")
]


def upgrade() -> None:
    if op.get_context().dialect.name == "postgresql":
        for name in _TABLES:
            op.create_index(
                f"ix_{name}_taken_at_ms", name, ["taken_at_ms"], postgresql_using="brin"
            )


def downgrade() -> None:
    if op.get_context().dialect.name == "postgresql":
        for name in _TABLES:
            op.drop_index(f"ix_{name}_taken_at_ms", name)
