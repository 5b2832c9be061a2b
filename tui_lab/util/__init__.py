"""Shared helpers that depend on nothing else in tui-lab: errors, exit codes, files, JSON and text escaping."""
