"""The optimizers of a script, and updates that it makes without one."""
