"""One file per check. `check(target)` yields findings, or raises NotJudged if it lacks information.

A new check is added to `CHECKS` in `registry.py`.
"""
