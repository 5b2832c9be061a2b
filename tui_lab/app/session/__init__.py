"""Threads that train, replay, generate and diagnose, and what the app knows of a run. Imports no textual."""
