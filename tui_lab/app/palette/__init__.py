"""The command palette, with commands that take an argument, such as `set optim.lr 0.001`."""
