"""Measurements against what others do; each module prints its ratios and keeps a table."""
