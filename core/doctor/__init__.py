"""The doctor: names why a model does not learn. `from tui_lab import Case, examine` is its API."""
