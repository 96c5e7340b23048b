"""Measurements: each module prints a table or JSON; run them from the repository root."""
