"""The report on a run: one HTML file."""

from typing import Any

from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.report.chart import loss_chart
from tui_lab.report.page import Html, element, join, page, section, table, text, tiles
from tui_lab.report.report_data import Material, Sample
from tui_lab.runs.figures import figure_text, setting_text
from tui_lab.runs.listing import not_default

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
        ("train loss, running mean", figure_text("train_loss", summary.train_loss)),
        ("validation loss", figure_text("val_loss", summary.val_loss)),
        ("best validation loss", figure_text("best_val_loss", summary.best_val_loss)),
        ("at step", figure_text("best_step", summary.best_step)),
        ("exact match", figure_text("exact_match", summary.exact_match)),
        ("perplexity", figure_text("perplexity", summary.perplexity)),
        ("parameters", figure_text("parameters", summary.parameters)),
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
        (
            text(n),
            text(f"{one.step:,}"),
            element("code", text(one.key)),
            text(setting_text(one.old)),
            text(setting_text(one.new)),
        )
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
    others = not_default(config)
    sections: dict[str, list[tuple[Html, Html]]] = {}
    for key in settings.fields():
        part, _, name = key.rpartition(".")
        value, usual = setting_text(settings.get(config, key)), setting_text(settings.get(Config(), key))
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
