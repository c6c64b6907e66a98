"""Watches what is measured, and tells what it means: idle tasks, faulty devices, silence."""
