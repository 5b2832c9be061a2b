"""The panes of the lab screen, and its status line."""
