"""Planted faults: replacements for parts of a run, one for each name in core/config/faults.py."""
