"""A script's model: how it is found, and how it is called without changing anything of it."""
