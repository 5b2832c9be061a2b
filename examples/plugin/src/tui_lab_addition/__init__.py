"""A plug-in for tui-lab: adding two numbers."""
