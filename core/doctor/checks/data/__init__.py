"""Checks of the batches and their targets."""
