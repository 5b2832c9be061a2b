"""Lessons in the app: the list, the strip over the lab, and what leads from stage to stage."""
