"""`tui-lab sweep`: many runs of one config, in processes of this machine or on a Ray cluster."""
