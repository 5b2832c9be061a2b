"""A script that is tried out for a moment changes no file of the user: it gets copies, and writes no checkpoint."""
