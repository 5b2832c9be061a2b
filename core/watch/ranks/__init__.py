"""Changes of a script that several processes train: all of them make a change after the same optimizer step."""
