"""Checks of the update and of the training loop."""
