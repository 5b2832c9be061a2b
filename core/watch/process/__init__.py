"""The process of a script: how it is started, how it ends, and what it prints."""
