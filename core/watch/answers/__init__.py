"""Answers with a script's model: generated text, attention maps, and looks inside."""
