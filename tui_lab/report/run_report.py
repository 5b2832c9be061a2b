"""The report on a run."""

import shlex

from tui_lab.core.config.schema import Config
from tui_lab.core.config.script import ImportedConfig, RunConfig, unit_of
from tui_lab.report.chart import loss_chart
from tui_lab.report.nonfinite_section import NonFiniteSection
from tui_lab.report.render import render, settings_by_section
from tui_lab.report.report_data import ReportData
from tui_lab.runs.figures import figure_text
from tui_lab.runs.names import state_name
from tui_lab.util.plural import counted


def run_report(data: ReportData) -> str:
    """Return the HTML page."""
    config = data.config
    own = config if isinstance(config, Config) else None
    return render(
        "run.html",
        data=data,
        state=state_name(data.row.state),
        total_steps=_total_steps(data),
        recorded_from=_recorded_from(config),
        faults=() if own is None else own.faults,
        has_answers=own is not None and own.data.task == "reverse",
        figures=_figures(data),
        non_finite=None if data.non_finite is None else NonFiniteSection.of(data.non_finite, data.before_non_finite),
        chart=loss_chart(data.curves).svg if data.curves.train[0] else None,
        is_script=data.row.kind == "script",
        settings=settings_by_section(data.config),
        trained_on=_trained_on(data),
        created=data.created,
        path=data.row.path,
    )


def _recorded_from(config: RunConfig) -> tuple[str, str]:
    """Return where a run comes from that our trainer did not train: how, and the script or log."""
    if isinstance(config, ImportedConfig):
        return "Imported from the log", f"{config.source.path} ({config.source.format})"
    if isinstance(config, Config):
        return "", ""
    return "Recorded from the script", f"{shlex.join(config.command)}, started in {config.folder}"


def _total_steps(data: ReportData) -> int:
    """Return the number of steps of the run, which can be changed while it trains or is resumed; 0: unknown."""
    steps = data.started[-1].steps if data.started else data.config.train.steps
    changed = [change.new for change in data.curves.changes if change.key == "train.steps"]
    return int(changed[-1]) if changed else steps


def _figures(data: ReportData) -> list[tuple[str, str]]:
    """Return the known figures of a run: title and value."""
    summary = data.summary
    figures = [
        ("train loss, running mean", figure_text("train_loss", summary.train_loss)),
        ("validation loss", figure_text("val_loss", summary.val_loss)),
        ("best validation loss", figure_text("best_val_loss", summary.best_val_loss)),
        ("at step", figure_text("best_step", summary.best_step)),
        ("exact match", figure_text("exact_match", summary.exact_match)),
        ("perplexity", figure_text("perplexity", summary.perplexity)),
        ("parameters", figure_text("parameters", summary.parameters)),
        (f"{unit_of(data.config)}/s", f"{summary.tokens_per_s:,.0f}" if summary.tokens_per_s else "–"),
        ("seconds of training", f"{summary.train_seconds:,.1f}" if summary.has_time else "–"),
    ]
    return [(title, value) for title, value in figures if value != "–"]


def _trained_on(data: ReportData) -> str:
    if not data.started or isinstance(data.config, ImportedConfig):
        return ""
    last = data.started[-1]
    starts = f", started {len(data.started)} times" if len(data.started) > 1 else ""
    resumed = f", resumed at step {last.step:,}" if last.resumed else ""
    return f"Trained on {last.device} with {counted(last.threads, 'thread')}{starts}{resumed}."
