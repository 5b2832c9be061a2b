"""The report on a sweep: its trials ranked, and their curves over each other."""

import time
from collections.abc import Sequence

from tui_lab.core.config import settings
from tui_lab.core.runs.sweep.folder import Row, Sweep
from tui_lab.core.runs.sweep.search_space import label, written
from tui_lab.report.chart import overlay_chart
from tui_lab.report.page import Html, element, page, section, table, text, tiles
from tui_lab.report.report_data import environment
from tui_lab.report.run_report import environment_section, settings_section
from tui_lab.runs.figures import figure_text
from tui_lab.sweep import results
from tui_lab.util.errors import ConfigError


def words_of(metric: str) -> str:
    return metric.replace("val_loss", "validation loss").replace("_", " ")


def sweep_report(sweep: Sweep) -> str:
    """The page."""
    rows = results.best_first(sweep, sweep.rows())
    chart, style = _overlay(sweep, rows)
    return page(
        f"{sweep.name}: report of a sweep",
        _head(sweep, rows),
        chart,
        _seeds(sweep, rows),
        _trials(sweep, rows),
        _failures(rows),
        _plan(sweep),
        _settings(sweep),
        environment_section(environment()),
        element("footer", text(f"Made by tui-lab on {time.strftime('%Y-%m-%d %H:%M')} from {sweep.path}")),
        style=style,
    )


def _head(sweep: Sweep, rows: Sequence[Row]) -> Html:
    plan, best = sweep.plan, rows[0] if rows and rows[0].state == "done" and rows[0].value is not None else None
    counts = {state: sum(row.state == state for row in rows) for state in dict.fromkeys(row.state for row in rows)}
    words = f"{len(rows)} trials over {', '.join(plan.over)}: " + ", ".join(f"{n} {s}" for s, n in counts.items())
    told = [element("h1", text(sweep.name)), element("p", text(words), class_="intro")]
    if best is not None:
        told.append(
            tiles(
                [
                    (f"best {words_of(plan.metric)}", figure_text(plan.metric, best.value)),
                    ("of trial", f"{best.number}"),
                    ("with", label(best.values)),
                ]
            )
        )
    verdict = results.verdict(plan, rows)
    if verdict is not None:
        told.append(element("p", text(verdict.text), class_="banner good" if verdict.holds else "banner bad"))
    return element("header", *told)


def _overlay(sweep: Sweep, rows: Sequence[Row]) -> tuple[Html, str]:
    """The curves that the sweep's own picture has, coloured by the page."""
    series = {name: (tuple(xs), tuple(ys)) for name, (xs, ys) in results.curves(sweep.plan, rows).items()}
    if not series:
        return section("Curves", element("p", text("No update is recorded."))), ""
    loss = words_of(results.curve_kind(sweep.plan))
    svg, style = overlay_chart(series, label=f"{loss}, nats")
    words = f"The {results.MAX_CURVES} best." if len(series) == results.MAX_CURVES else ""
    words += f" Means of {sweep.plan.seeds} seeds." if sweep.plan.seeds > 1 else ""
    return section("Curves", element("figure", svg, element("figcaption", text(words)))), style


def _seeds(sweep: Sweep, rows: Sequence[Row]) -> Html:
    """The points, over their seeds."""
    if sweep.plan.seeds == 1:
        return Html("")
    metric = sweep.plan.metric
    lines = [
        (text(label(group.values)), text(figure_text(metric, group.mean)), text(figure_text(metric, group.deviation)),
         text(len(group.metrics)))
        for group in results.groups(sweep.plan, rows)
    ]  # fmt: skip
    head = ("point", f"mean {words_of(metric)}", "standard deviation", "seeds")
    return section("Over seeds", table(head, lines, numbers=(1, 2, 3)))


def _trials(sweep: Sweep, rows: Sequence[Row]) -> Html:
    keys = list(sweep.plan.over)
    extra = [key for key in ("train_loss", "val_loss", "exact_match", "perplexity") if key != sweep.plan.metric]
    shown = [key for key in extra if any(_metric(row, key) is not None for row in rows)]
    metric, words = sweep.plan.metric, [words_of(key) for key in (sweep.plan.metric, *shown)]
    head = ("", "trial", *keys, "state", *words, "steps", "seconds")
    lines = [
        (
            text(place if row.state == "done" else ""),
            text(row.number),
            *(text(written(row.values[key])) for key in keys),
            element("span", text(row.state), class_="bad" if row.state == "failed" else ""),
            element("strong", text(figure_text(metric, row.value))),
            *(text(figure_text(key, _metric(row, key))) for key in shown),
            text(figure_text("steps", row.summary.steps if row.summary else None)),
            text(figure_text("seconds", row.summary.train_seconds if row.summary else None)),
        )
        for place, row in enumerate(rows, 1)
    ]
    columns = [0, 1, *range(2 + len(keys) + 1, len(head))]
    way = "largest" if sweep.plan.rising else "smallest"
    return section("Trials", table(head, lines, numbers=columns), intro=f"The {way} {words_of(metric)} first.")


def _metric(row: Row, name: str) -> float | None:
    return row.summary.metric(name) if row.summary else None


def _failures(rows: Sequence[Row]) -> Html:
    failed = [row for row in rows if row.result is not None and row.result.message]
    if not failed:
        return Html("")
    lines = [(text(row.number), text(label(row.values)), text(row.result.message)) for row in failed if row.result]
    return section("What went wrong", table(("trial", "values", "message"), lines, numbers=(0,)))


def _plan(sweep: Sweep) -> Html:
    plan = sweep.plan
    told = {
        "command": plan.command,
        "metric": plan.metric,
        "drawn": f"{plan.drawn} points at random" if plan.drawn else "a grid",
        "seeds": plan.seeds,
        "engine": plan.engine,
        "jobs": plan.jobs,
        "pruning": "by the median" if plan.prune else "none",
    }
    rows = [(text(name), text(value)) for name, value in told.items() if value != ""]
    rows += [(element("code", text(key)), text(written(spec))) for key, spec in plan.over.items()]
    return section("Plan", table(("", ""), rows))


def _settings(sweep: Sweep) -> Html:
    """Those of every trial, where they are a config without what is swept."""
    try:
        return settings_section(settings.build(sweep.plan.base), "Settings of every trial")
    except ConfigError:
        return Html("")
