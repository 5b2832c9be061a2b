"""A script's source code: which of it is recorded, and what is read from it."""
