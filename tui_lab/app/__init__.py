"""The Textual app: panes, screens and widgets over a session."""
