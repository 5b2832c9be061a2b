"""Escape text from untrusted sources. Imports nothing, since the command line imports it."""


def printable(text: str, kept: str = "\n") -> str:
    """Escape control and invisible characters except `kept`, so that `text` cannot control a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in kept else c.encode("unicode_escape").decode() for c in text)
