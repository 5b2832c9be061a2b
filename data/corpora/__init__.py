"""Sources of text: the bundled dialogues, files, folders, globs, and Plato by download."""
