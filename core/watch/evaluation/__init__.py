"""Evaluations of a script: the losses that it computes without gradients, and over which part of the data."""
