"""The screens of the app, each with its style in a .tcss file."""
