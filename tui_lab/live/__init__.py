"""Between the science and the screen: threads that work, and what the screen knows of them. No textual here."""
