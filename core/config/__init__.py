"""The settings of a run: their schema, the presets, and reading and changing them by dotted keys."""
