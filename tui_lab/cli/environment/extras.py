"""The extras of tui-lab: which are installed, and how to get the others."""

from tui_lab.cli.environment.section import Figure, Missing, Section
from tui_lab.cli.environment.versions import requirements
from tui_lab.util.extras import PURPOSES, install_command


def section() -> Section:
    """Return for each extra whether its packages are installed, in allowed versions."""
    by_extra = {extra: [r for r in requirements() if r.extra == extra] for extra in PURPOSES}
    figures: dict[str, Figure] = {}
    missing = []
    for extra, purpose in PURPOSES.items():
        lacking = [f"{r.name}{r.bounds}" for r in by_extra[extra] if not r.is_met]
        figures[extra] = not lacking
        if lacking:
            missing.append(Missing(extra, f"{purpose}: {', '.join(lacking)}", install_command(extra)))
    return Section("extras", figures, tuple(missing))
