"""The steps of a script: what is measured of each, and how it gets into the event log."""
