"""Text that may have come from anywhere, as it may be shown. Needs nothing: the command line imports it."""


def printable(text: str, kept: str = "\n") -> str:
    """`text` with control, escape and invisible characters but those `kept` escaped: it cannot drive a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in kept else c.encode("unicode_escape").decode() for c in text)
