"""Where text comes from: the bundled dialogues, files, folders, globs, and Plato by download."""
