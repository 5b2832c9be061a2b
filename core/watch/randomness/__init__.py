"""`tui-lab randomness SCRIPT.py`: run a script twice, and find what makes its runs differ."""
