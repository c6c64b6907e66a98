"""Leases: what agents are told to run, and what they say of it."""
