"""Devices that take no new task, why, and until when."""
