"""Text and charts that the command line and the app show in the same form. Imports no textual."""
