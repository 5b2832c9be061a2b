"""Lessons: folders of TOML and Markdown that lead a student through real runs, their checks, and the progress made."""
