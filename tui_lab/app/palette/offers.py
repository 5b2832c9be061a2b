"""What the palette offers for a typed line: commands to run, lines to complete, or what is wrong."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Offer:
    """A line of the palette's list.

    line: the whole command. about: what it does, or what is wrong with it. run: what Enter does; None if the line is
    only put into the field, so that the user can go on typing. is_problem: Enter does nothing. title: what the
    list shows instead of the line.
    """

    line: str
    about: str
    run: Callable[[], object] | None = None
    is_problem: bool = False
    title: str = ""


@dataclass(frozen=True)
class Verb:
    """A command with an argument. example: its argument as the list shows it.

    offers: returns the offers for a typed argument, which may be empty. understands: whether a line without the name
    is meant for this command. is_title: whether a command without an argument has the same name.
    """

    name: str
    example: str
    about: str
    offers: Callable[[str], Sequence[Offer]]
    understands: Callable[[str], bool] = lambda line: False
    is_title: bool = False

    @property
    def offer(self) -> Offer:
        """The offer to type an argument."""
        return Offer(f"{self.name} ", self.about, title=f"{self.name} {self.example}")


@dataclass(frozen=True)
class LineOffers:
    """The offers for a line. is_sure: whether the line names a command with an argument, so that they come first."""

    offers: Sequence[Offer]
    is_sure: bool


def find(verbs: Iterable[Verb], line: str) -> LineOffers:
    """Return the offers for a typed line."""
    name, _, argument = line.strip().partition(" ")
    all_verbs = list(verbs)
    for verb in all_verbs:
        if verb.name == name.lower():
            return LineOffers(verb.offers(argument.strip()), is_sure=bool(argument) or not verb.is_title)
    for verb in all_verbs:
        if verb.understands(line.strip()):
            return LineOffers(verb.offers(line.strip()), is_sure=True)
    beginning = [verb.offer for verb in all_verbs if verb.name.startswith(name.lower())] if not argument else []
    return LineOffers(beginning, is_sure=False)


def of_number(
    name: str, about: Callable[[int], str], run: Callable[[int], object], *, least: int, most: Callable[[], int | None]
) -> Callable[[str], list[Offer]]:
    """Return the offers of a command that takes a whole number. most: its largest value; None if there is none."""

    def offers(argument: str) -> list[Offer]:
        largest = most()
        allowed = f"a whole number from {least:,}" + ("" if largest is None else f" to {largest:,}")
        if not argument:
            return [Offer(f"{name} ", f"type {allowed}")]
        digits = argument.replace(",", "").replace("_", "")
        number = int(digits) if digits.isdecimal() and len(digits) < len(str(10**12)) else None
        if number is None or number < least or (largest is not None and number > largest):
            return [Offer(f"{name} {argument}", f"must be {allowed}", is_problem=True)]
        return [Offer(f"{name} {argument}", about(number), lambda: run(number))]

    return offers


def of_names(
    name: str, names: Callable[[], Iterable[str]], about: str, run: Callable[[str], object]
) -> Callable[[str], list[Offer]]:
    """Return the offers of a command that takes one of a few names."""

    def offers(argument: str) -> list[Offer]:
        all_names = list(names())
        matching = [each for each in all_names if argument.lower() in each]
        matching.sort(key=lambda each: not each.startswith(argument.lower()))
        if not matching:
            return [Offer(f"{name} {argument}", f"must be one of {', '.join(all_names)}", is_problem=True)]
        return [Offer(f"{name} {each}", about, lambda each=each: run(each)) for each in matching]  # type: ignore[misc]

    return offers


def of_text(name: str, hint: str, about: str, run: Callable[[str], object]) -> Callable[[str], list[Offer]]:
    """Return the offers of a command that takes any text."""

    def offers(argument: str) -> list[Offer]:
        if not argument:
            return [Offer(f"{name} ", f"type {hint}")]
        return [Offer(f"{name} {argument}", about, lambda: run(argument))]

    return offers
