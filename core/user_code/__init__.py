"""Code that the user names: loading a file, wrapping its model, and whether it may run."""
