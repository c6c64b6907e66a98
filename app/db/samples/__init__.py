"""The telemetry store: measurements at three resolutions, in a database of their own."""
