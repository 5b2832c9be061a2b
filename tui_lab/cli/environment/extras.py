"""The extras of tui-lab: which are installed, and how to get the others."""

from tui_lab.cli.environment.section import Figure, Missing, Section
from tui_lab.cli.environment.versions import is_met, requirements
from tui_lab.util.extras import PURPOSES, install_command


def section() -> Section:
    """Return for each extra whether its packages are installed, in allowed versions."""
    figures: dict[str, Figure] = {}
    missing = []
    for extra, purpose in PURPOSES.items():
        lacking = [f"{r.name}{r.specifier}" for r in requirements(extra) if not is_met(r)]
        figures[extra] = not lacking
        if lacking:
            missing.append(Missing(extra, f"{purpose}: {', '.join(lacking)}", install_command(extra)))
    return Section("extras", figures, tuple(missing))
