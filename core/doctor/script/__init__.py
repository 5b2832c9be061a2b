"""Examine a training script: run it unchanged for some updates, then judge what it did and trials of its parts."""
