"""One check a file: `check(subject, probe)` yields findings, or raises Skip where it cannot know."""
