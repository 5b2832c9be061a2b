"""The variables of a running script: how they are read, and the config that they give."""
