"""Numbers of things as text: 1 step, 2 steps, 1,000 steps."""


def counted(n: int, noun: str) -> str:
    """Return a number and its noun, which gets an s unless `n` is 1."""
    return f"{n:,} {plural(n, noun)}"


def plural(n: int, noun: str) -> str:
    """Return a noun, with an s unless `n` is 1."""
    return noun if n == 1 else f"{noun}s"
