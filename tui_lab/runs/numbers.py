"""Numbers as text: the app, the command line and the reports write the same value in the same way."""

import math

LARGEST_WHOLE = 1e9
"""Larger numbers are written with an exponent."""
EXACT = 1e-7
"""Values that are so near to each other, relative to their size, are the same number in 32 bits."""


def short_number(value: float) -> str:
    """Return a value with four significant digits; whole numbers from 10,000 on keep all of theirs.

    Rounding keeps its zeros, so that a changing value keeps its width: 10.70 for 10.7003, but 10.7 for 10.7.
    """
    if 9999.5 <= abs(value) < LARGEST_WHOLE:
        return f"{value:,.0f}"
    rounded = f"{value:.4g}"
    is_exact = math.isclose(float(rounded), value, rel_tol=EXACT)
    return without_zeros(f"{value:,.4g}" if is_exact else f"{value:#,.4g}".rstrip("."))


def without_zeros(text: str) -> str:
    """Return a number in scientific notation without the zeros and the plus of its exponent: 2e-05 as 2e-5."""
    digits, e, exponent = text.partition("e")
    return f"{digits}e{int(exponent)}" if e else text


def percent(share: float) -> str:
    """Return a share from 0 to 1 as percent with four significant digits; only 1 is "100%"."""
    text = f"{100 * share:.4g}"
    if text == "100" and share < 1:
        text = f"{100 * share:.9g}"
    return f"{text}%"


def span(seconds: float) -> str:
    """Return a duration as h:mm:ss or m:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
