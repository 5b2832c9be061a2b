"""The doctor: names the cause of a training that does not learn. `from tui_lab import Case, examine` is its API."""
