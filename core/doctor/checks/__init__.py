"""One check per file. `check(target)` yields findings, or raises Skip if it lacks information."""
