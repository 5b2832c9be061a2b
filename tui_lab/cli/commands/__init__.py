"""The commands: their arguments, options and help. Each imports its implementation when it runs, so help is fast."""
