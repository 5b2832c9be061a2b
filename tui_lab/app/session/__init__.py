"""Worker threads beside the screen, and what the screen knows of them. Imports no textual."""
