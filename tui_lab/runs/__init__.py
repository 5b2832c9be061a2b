"""`tui-lab runs`: list, show, compare, tag, export and delete runs."""
