"""Write the report on a run or a sweep into one HTML file."""

from collections.abc import Sequence
from pathlib import Path

from tui_lab.core.runs import folder as runs
from tui_lab.core.runs.folder import SWEEP, Run
from tui_lab.core.runs.sweep import folder as sweeps
from tui_lab.core.runs.sweep.folder import Sweep
from tui_lab.report.comparison_report import comparison_report
from tui_lab.report.report_data import gather
from tui_lab.report.run_report import run_report
from tui_lab.report.sweep_report import sweep_report
from tui_lab.runs.comparing import Comparison
from tui_lab.runs.exporting import refuse_run_files
from tui_lab.util import files
from tui_lab.util.errors import ConfigError, RunError
from tui_lab.util.extras import require

SUFFIXES = (".html", ".htm")


def write_report(source: str, to: Path, prompts: Sequence[str]) -> None:
    """Write the report on a run or sweep, given by folder or name.

    Raises ConfigError for a suffix that is not .html or for prompts to a sweep, RunError for a run that cannot be read.
    """
    check_target(to)
    sweep = _find_sweep(source)
    if sweep is None:
        write_run_report(runs.find(source), to, prompts)
    elif prompts:
        raise ConfigError.of("conflict", "only a run can be prompted; a sweep has many models", key="--prompt")
    else:
        write_page(to, sweep_report(sweep))


def write_run_report(run: Run, to: Path, prompts: Sequence[str]) -> None:
    """Write the report on a run. Raises ConfigError or RunError as `write_report`."""
    check_target(to)
    write_page(to, run_report(gather(run, prompts)))


def write_comparison(comparison: Comparison, to: Path, *, code: bool) -> None:
    """Write the report on compared runs. code: with the lines of the code that differ. Raises RunError."""
    write_page(to, comparison_report(comparison, code=code))


def _find_sweep(source: str) -> Sweep | None:
    """Return the sweep of a path or name, or None if there is no such folder. Raises RunError for a damaged one."""
    folders = (Path(source), runs.runs_folder() / source)
    return next((sweeps.read_sweep(path) for path in folders if (path / SWEEP).is_file()), None)


def check_target(to: Path, option: str = "--to") -> None:
    """Raise ConfigError unless an HTML report can be written to `to`, which the user gave by `option`."""
    require("jinja2", extra="plots", feature="an HTML report")
    require("matplotlib", extra="plots", feature="an HTML report")
    if to.suffix not in SUFFIXES:
        raise ConfigError.of("invalid", "not an HTML file", key=option, value=str(to), allowed=", ".join(SUFFIXES))
    refuse_run_files(to)


def write_page(to: Path, html: str) -> None:
    """Write a page. Raises RunError."""
    try:
        with files.new_file(to) as out:
            out.write(html.encode())
    except OSError as error:
        raise RunError.of("unwritable", f"cannot be written: {error.strerror}", key=str(to)) from error
