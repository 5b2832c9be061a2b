"""The tasks: each has its examples, its ignored targets and its metric."""
