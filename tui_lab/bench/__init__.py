"""Benchmarks. Each compares things measured in the same run, in turn, since machines and their load differ."""
