"""The schema's history: one tree for SQLite and PostgreSQL (Alembic)."""
