"""`tui-lab doctor --environment`: what this installation and machine have, and what is missing."""
