"""The runs screen: the table of runs, their curves and replies, and the settings in which they differ."""
