"""The one error that bad data or a bad data setting raises."""


class DataError(ValueError):
    """Bad input from a person: the message names the setting, its value and what is allowed."""
