"""`tui-lab runs` and `tui-lab report`: earlier runs, looked at, compared, kept and given away."""
