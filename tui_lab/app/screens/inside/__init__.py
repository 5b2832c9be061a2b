"""The screen that looks inside a model, and its views."""
