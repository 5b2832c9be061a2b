"""Planted faults: replacements for parts of a training, one for each name in core/config/faults.py."""
