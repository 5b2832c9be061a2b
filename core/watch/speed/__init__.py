"""Where the time of a script's steps goes, and which changes make them faster."""
