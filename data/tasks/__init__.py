"""The tasks: each makes examples, says which targets are ignored, and names its metric."""
