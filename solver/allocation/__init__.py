"""Shares over time: which fraction of the time each job runs on which type of accelerator.

The policies, their formulas and sources: docs/model.md, "Allocation: shares over time".
"""
