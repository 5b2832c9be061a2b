"""The report on a run: one HTML file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tui_lab.cli.output import stdout
from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs.folder import Run
from tui_lab.core.runs.sweep import folder as sweeps
from tui_lab.core.runs.sweep.folder import Sweep
from tui_lab.report.chart import loss_chart
from tui_lab.report.page import Html, element, join, page, section, table, text, tiles
from tui_lab.report.report_data import Material, Sample, gather
from tui_lab.runs.exporting import allow
from tui_lab.runs.listing import number, unlike_defaults, word
from tui_lab.util import files
from tui_lab.util.errors import ConfigError, RunError

REASONS = {
    "done": "trained to its last step",
    "target": "stopped at its target loss",
    "patience": "stopped early: validation no longer improved",
    "stopped": "stopped by hand",
    "failed": "failed",
    "interrupted": "interrupted before its end",
    "running": "running now",
    "pruned": "stopped by its sweep",
}


def report_on(source: str, to: Path, prompts: Sequence[str]) -> None:
    """A report on a run or a sweep. Raises ConfigError or RunError."""
    from tui_lab.report.sweep_report import write_sweep_report

    check_target(to)
    sweep = _sweep(source)
    if sweep is None:
        write_report(runs.find(source), to, prompts)
    elif prompts:
        raise ConfigError(["--prompt goes with a run; a sweep has many models"])
    else:
        write_sweep_report(sweep, to)
    stdout().write(f"{to}\n")


def _sweep(source: str) -> Sweep | None:
    """The sweep of a path or name, None where there is no such folder. Raises RunError for a damaged one."""
    folders = (Path(source), runs.runs_folder() / source)
    return next((sweeps.read(path) for path in folders if (path / sweeps.SWEEP).is_file()), None)


def write_report(run: Run, to: Path, prompts: Sequence[str]) -> None:
    """Raises ConfigError for another ending than .html, RunError where the run cannot be read or `to` not written."""
    check_target(to)
    write_page(to, report(gather(run, prompts)))


def check_target(to: Path) -> None:
    if to.suffix not in (".html", ".htm"):
        raise ConfigError([f"--to {to}: a report ends in .html"])
    allow(to)


def write_page(to: Path, whole: str) -> None:
    try:
        with files.new_file(to) as out:
            out.write(whole.encode())
    except OSError as error:
        raise RunError(f"{to}: not written: {error.strerror}") from error


def report(found: Material) -> str:
    """The page."""
    return page(
        f"{found.name}: report of a training",
        _head(found),
        _curves(found),
        _changes(found),
        _findings(found),
        _samples(found),
        settings_section(found.config),
        _chance(found),
        environment_section(found.environment, found),
        element("footer", text(f"Made by tui-lab on {found.made} from {found.row.path}")),
    )


def _head(found: Material) -> Html:
    row, summary = found.row, found.summary
    words = f"{REASONS.get(row.state, row.state)}, step {row.steps:,} of {found.config.train.steps:,}"
    told = [element("h1", text(found.name)), element("p", text(words), class_="intro")]
    if found.failure:
        told.append(element("p", text(found.failure), class_="banner bad"))
    if found.config.faults:
        made = ", ".join(found.config.faults)
        told.append(element("p", text(f"Trained with mistakes made on purpose: {made}"), class_="banner"))
    if row.tags:
        told.append(element("p", *(element("span", text(tag), class_="tag") for tag in row.tags)))
    if row.note:
        told.append(element("p", text(row.note)))
    figures = [
        ("train loss, running mean", number("train_loss", summary.train_loss)),
        ("validation loss", number("val_loss", summary.val_loss)),
        ("best validation loss", number("best_val_loss", summary.best_val_loss)),
        ("at step", number("best_step", summary.best_step)),
        ("exact match", number("exact_match", summary.exact_match)),
        ("perplexity", number("perplexity", summary.perplexity)),
        ("parameters", number("parameters", summary.parameters)),
        ("tokens/s", "–" if not summary.tokens_per_s else f"{summary.tokens_per_s:,.0f}"),
        ("seconds of updates", f"{summary.train_seconds:,.1f}"),
    ]
    return element("header", *told, tiles([(name, value) for name, value in figures if value != "–"]))


def _curves(found: Material) -> Html:
    if not found.curves.train[0]:
        return section("Loss", element("p", text("No update is recorded.")))
    words = ["The ring marks the best validation loss."] if found.curves.best else []
    if found.curves.changes:
        words.append("Broken lines are live changes, numbered as below.")
    caption = element("figcaption", text(" ".join(words))) if words else Html("")
    return section("Loss", element("figure", loss_chart(found.curves), caption))


def _changes(found: Material) -> Html:
    changes = found.curves.changes
    if not changes:
        return section("Changes made live", element("p", text("None."), class_="soft"))
    rows = [
        (text(n), text(f"{one.step:,}"), element("code", text(one.key)), text(word(one.old)), text(word(one.new)))
        for n, one in enumerate(changes, 1)
    ]
    return section("Changes made live", table(("", "from step", "setting", "before", "after"), rows, numbers=(0, 1)))


def _findings(found: Material) -> Html:
    cards = [
        element(
            "div",
            element("h3", text(one.verdict), class_="bad"),
            element("p", text(one.evidence)),
            element("p", text(f"{one.why} {one.fix}"), class_="soft"),
            class_="card",
        )
        for one in found.findings
    ]
    warnings = [element("li", text(f"step {one.step:,}: {one.message}")) for one in found.warnings]
    if not cards and not warnings:
        cards = [element("p", text("The doctor's watchers noticed nothing."), class_="good")]
    more = element("ul", *warnings) if warnings else Html("")
    return section("Findings", *cards, more, intro="What the doctor's watchers notice in the record of this run.")


def _samples(found: Material) -> Html:
    if isinstance(found.samples, str):
        return section("Samples", element("p", text(found.samples), class_="soft"))
    intro = ("Held-out rows and the likeliest answer." if found.config.data.task == "reverse" else
             "What the model says after a beginning, at temperature 0.8 and seed 0.")  # fmt: skip
    answers = [one for one in found.samples if one.wanted is not None]
    if answers:
        return section("Samples", table(("row", "answer", ""), map(_answer, answers)), intro=intro)
    spoken = [
        element("div", element("pre", text(one.prompt), element("span", text(one.text), class_="said")), class_="card")
        for one in found.samples
    ]
    return section("Samples", *spoken, intro=intro)


def _answer(one: Sample) -> tuple[Html, Html, Html]:
    right = one.text == one.wanted
    verdict = "right" if right else f"wrong: it should be {one.wanted}"
    return (
        element("code", text(one.prompt)),
        element("code", text(one.text)),
        element("span", text(verdict), class_="good" if right else "bad"),
    )


def settings_section(config: Config, title: str = "Settings") -> Html:
    """Every setting, a table a section."""
    others = unlike_defaults(config)
    sections: dict[str, list[tuple[Html, Html]]] = {}
    for key in settings.fields():
        part, _, name = key.rpartition(".")
        value, usual = word(settings.get(config, key)), word(settings.get(Config(), key))
        shown = text(value)
        if key in others:
            shown = join(element("strong", text(value)), element("span", text(f" (default {usual})"), class_="soft"))
        sections.setdefault(part or "faults", []).append((element("code", text(name or key)), shown))
    tables = [
        element("div", element("h3", text(part)), table(("setting", "value"), rows)) for part, rows in sections.items()
    ]
    return section(title, element("div", *tables, class_="columns"), intro="What is not the default stands out.")


def _chance(found: Material) -> Html:
    if isinstance(found.sources, str):
        return section("Randomness", element("p", text(found.sources), class_="soft"))
    rows = [
        (text(one.name), text(one.draws), text(one.seed),
         element("span", text("pinned" if one.pinned else "free"), class_="good" if one.pinned else "bad"),
         element("code", text(one.fingerprint or "")))
        for one in found.sources
    ]  # fmt: skip
    return section(
        "Randomness", table(("source", "draws", "seed", "", "fingerprint"), rows),
        intro="Every source of chance, and a fingerprint of what it draws at the first step, here and now.",
    )  # fmt: skip


def environment_section(here: dict[str, Any], found: Material | None = None) -> Html:
    rows = [(text(name), text(value)) for name, value in here.items()]
    trained = []
    if found is not None and found.started:
        last, times = found.started[-1], len(found.started)
        words = f"Trained on {last.device} with {last.threads} threads" + (f", in {times} goes." if times > 1 else ".")
        trained = [element("p", text(words))]
    return section("Environment", *trained, table(("where this report was made", ""), rows))
