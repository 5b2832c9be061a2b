"""Print the environment's report, as text or JSON."""

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tui_lab.cli.environment import compute, extras, plugins, storage, terminal, versions
from tui_lab.cli.environment.section import Figure, Section, to_json, works
from tui_lab.cli.output import console, write_json
from tui_lab.util.escape import printable
from tui_lab.util.exit_codes import DONE, NOT_MET


def sections() -> list[Section]:
    """Return the whole report, in its order."""
    return [
        versions.section(),
        versions.contracts_section(),
        compute.section(),
        storage.memory(),
        storage.folders(),
        terminal.section(),
        extras.section(),
        plugins.section(),
    ]


def report(*, as_json: bool) -> int:
    """Print the report; return the exit code, which is NOT_MET if something needed is missing or broken."""
    of_machine = sections()
    if as_json:
        write_json(to_json(of_machine), indent=2)
    else:
        _show(of_machine)
    return DONE if works(of_machine) else NOT_MET


def _show(of_machine: list[Section]) -> None:
    out = console()
    for section in of_machine:
        out.print(Text(section.name, style="bold underline"))
        grid = _grid()
        for name, figure in section.figures.items():
            grid.add_row(name, Text(printable(shown(figure))))
        out.print(Padding(grid, (0, 0, 1, 2)))
    needed = [missing for section in of_machine for missing in section.missing if missing.needed]
    others = [missing for section in of_machine for missing in section.missing if not missing.needed]
    for title, style, entries in (("needed", "bold red", needed), ("missing or limited", "bold yellow", others)):
        if entries:
            out.print(Text(title, style=style))
            grid = _grid()
            for missing in entries:
                grid.add_row(missing.name, Text(f"{printable(missing.message)}\n{printable(missing.fix)}"))
            out.print(Padding(grid, (0, 0, 1, 2)))
    if not needed:
        out.print(Text("everything needed is there", style="bold green"))


def _grid() -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(ratio=1)
    return grid


def shown(figure: Figure) -> str:
    """Return a figure as text."""
    if figure is None:
        return "unknown"
    if isinstance(figure, bool):
        return "yes" if figure else "no"
    if isinstance(figure, list):
        return ", ".join(figure) or "none"
    return str(figure) or "none"
