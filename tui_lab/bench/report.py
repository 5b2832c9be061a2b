"""Run all benchmarks one after the other and format their figures as the tables of docs/performance.md."""

import json
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tui_lab.runs.machine import machine
from tui_lab.util import files
from tui_lab.util.child import child_environment, python_module
from tui_lab.util.errors import ConfigError

BEGIN = "<!-- figures: begin -->"
END = "<!-- figures: end -->"
SIZES = ("80x24", "200x50")
Figures = dict[str, Any]


def bench_all(text: str, progress: Callable[[str], None], so_far: Callable[[Figures], None]) -> Figures:
    """Return every figure as JSON values; `failed` lists the parts that could not be measured.

    Each part runs in a separate process, so that no part inherits the memory or threads of an earlier one.
    progress: called with a line of text when a part begins or fails.
    so_far: called with all figures after each part.
    """
    figures: Figures = {
        "machine": machine(),
        "date": time.strftime("%Y-%m-%d"),
        "text": Path(text).name,
        "failed": [],
    }
    parts: dict[str, Callable[[], Any]] = {
        "start": lambda: _measure("start"),
        "train": lambda: _measure("train"),
        "reverse": lambda: _measure("train", "--preset", "reverse"),
        "generate": lambda: _measure("generate"),
        "flat": lambda: _measure("flat"),
        "watch": lambda: _measure("watch", "--memory-steps", "100000"),
        "sweep": lambda: _measure("sweep"),
        "ui": lambda: [_measure("ui", "--size", size) for size in SIZES],
        "headline": lambda: _measure("headline", "--text", text),
    }
    for name, part in parts.items():
        progress(f"measuring: {name}")
        try:
            figures[name] = part()
        except subprocess.CalledProcessError as error:
            figures["failed"].append(name)
            progress(f"not measured: {name}: exit code {error.returncode}")
        so_far(figures)
    return figures


def _measure(*arguments: str) -> Any:
    """Run `tui-lab bench` and return its figures. Its messages go to stderr. Raises CalledProcessError."""
    command = python_module("tui_lab", "bench", *arguments, "--json")
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, env=child_environment()).stdout)


def write_into(path: Path, figures: Figures) -> None:
    """Replace the text between BEGIN and END in the file. Raises ConfigError when it cannot be read or has no marks."""
    try:
        before, _, rest = path.read_text("utf-8").partition(BEGIN)
    except OSError as error:
        raise ConfigError.of("unreadable", str(error.strerror), key="--write", value=str(path)) from error
    _, mark, after = rest.partition(END)
    if not mark:
        raise ConfigError.of("invalid", f"must contain the lines {BEGIN} and {END}", key="--write", value=str(path))
    files.write_text(path, f"{before}{BEGIN}\n{markdown(figures)}\n{END}{after}")


def markdown(figures: Figures) -> str:
    """Format the figures of `bench_all`; parts that are missing get no table."""
    m = figures["machine"]
    setting = (
        f"{figures['date']}, `make bench` on {m['cores']} cores ({m['processor']}), {m['memory_gib']} GiB, "
        f"{m['threads']} threads, {m['system']}, Python {m['python']}, torch {m['torch']}."
    )
    tables: dict[str, Callable[[Any], str]] = {
        "train": _train,
        "reverse": _train,
        "generate": _generate,
        "headline": lambda part: _headline(part, figures["text"]),
        "ui": _ui,
        "watch": _watch,
        "sweep": _sweep,
        "flat": _flat,
        "start": _start,
    }
    return "\n\n".join((setting, *(table(figures[name]) for name, table in tables.items() if name in figures)))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a Markdown table; the first column is aligned left, the others right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _train(figures: Figures) -> str:
    rows = [
        [
            name,
            f"{row['parameters']:,}",
            f"{1000 * row['median_s']:.1f}",
            f"{1000 * row['quartiles_s'][0]:.1f} … {1000 * row['quartiles_s'][1]:.1f}",
            *(f"{ratio:.2f}" for ratio in row["ours_is_faster"].values()),
            f"{100 * row['share_of_limit']:.0f}%",
        ]
        for name, row in figures["rows"].items()
    ]
    faster = [f"{name} is faster by" for name in figures["rows"]["tui-lab"]["ours_is_faster"]]
    limits = ", ".join(f"{name} {speed:.0f}" for name, speed in figures["gemm_gflop_per_s"].items())
    agreement = "; ".join(
        f"{name} to {comparison['largest_relative_difference']:.1e}"
        for name, comparison in figures["losses_agree"].items()
    )
    absent = "".join(f" {name}: {reason}." for name, reason in figures["absent"].items())
    rows_of_batch, length = figures["batch"]
    return (
        f"**Training, `{figures['preset']}`**, {rows_of_batch}×{length}, {figures['gflop_a_step']:.2f} GFLOP per step. "
        f"2048³ GEMM in the same run, GFLOP/s: {limits}. The first losses agree with: {agreement}.{absent}\n\n"
        + table(("baseline", "parameters", "ms per step", "quartiles", *faster, "of the GEMM limit"), rows)
    )


def _generate(figures: Figures) -> str:
    rows = [
        [
            name,
            f"{row['tokens_per_s']:.0f}",
            f"{row['quartiles'][0]:.0f} … {row['quartiles'][1]:.0f}",
            *(f"{ratio:.2f}" for ratio in row["ours_is_faster"].values()),
        ]
        for name, row in figures["rows"].items()
    ]
    faster = [f"{name} is faster by" for name in next(iter(figures["rows"].values()))["ours_is_faster"]]
    first = dict(figures["first_token_ms"])
    n_tokens = first.pop("prompt_tokens")
    each = "; ".join(f"{name} {ms['median']:.0f} ms, at most {ms['largest']:.0f} ms" for name, ms in first.items())
    absent = "".join(f" {name}: {reason}." for name, reason in figures["absent"].items())
    return (
        f"**Generation**, {figures['new_tokens']} tokens after a prompt of {figures['prompt_tokens']}. First token "
        f"after a prompt of {n_tokens}: {each}.{absent}\n\n"
        + table(("baseline", "tokens/s", "quartiles", *faster), rows)
    )


def _headline(figures: Figures, text: str) -> str:
    rows = [
        [
            name,
            f"{row['wall_s']:.0f}",
            f"{row['train_seconds']:.0f}",
            f"{row['steps']:,}",
            f"{row['tokens']:,}",
            f"{row['train_loss']:.3f}",
            f"{row['val_loss']:.2f}",
            f"{row['peak_memory_mib']:,}",
        ]
        for name, row in figures["rows"].items()
    ]
    ratios = figures["rows"]["tui-lab"].get("loop_takes_times", {})
    comparison = "".join(f" The {name} takes {ratio:.2f} times as long." for name, ratio in ratios.items())
    return (
        f"**The journal's final model on `{text}`, trained to a running train loss of "
        f"{figures['target_train_loss']}.**{comparison}\n\n"
        + table(
            ("baseline", "total s", "s in steps", "steps", "tokens", "train loss", "validation loss", "peak MiB"), rows
        )
    )


def _ui(figures: list[Figures]) -> str:
    rows = []
    for part in figures:
        columns, lines = part["size"]
        for preset, cost in part["cost"].items():
            keys = part["key_to_paint"][preset]
            generating = part["key_to_paint_while_generating"].get(preset)
            rows.append(
                [
                    f"{preset}, {columns}×{lines}",
                    f"{100 * cost['share']:.1f}%",
                    f"{100 * cost['share_95'][0]:.1f} … {100 * cost['share_95'][1]:.1f}",
                    f"{keys['p99_ms']:.0f}",
                    f"{generating['p99_ms']:.0f}" if generating else "–",
                ]
            )
    return "**The app**, in a pseudo-terminal, alternating with headless training.\n\n" + table(
        ("preset, terminal", "of headless steps/s", "95% interval", "key to paint, p99 ms", "while generating"), rows
    )


def _watch(figures: Figures) -> str:
    rows = [
        [
            f"{size}, {variant.replace('_', ' ')}",
            f"{cost['plain_ms']:.2f}",
            f"{cost['watched_ms']:.2f}",
            f"{100 * cost['overhead']:.1f}%",
            f"{100 * cost['overhead_95'][0]:.1f} … {100 * cost['overhead_95'][1]:.1f}",
            f"{100 * cost['limit']:.0f}%",
        ]
        for size, variants in figures["time"].items()
        for variant, cost in variants.items()
    ]
    memory = figures["memory"]
    first, last = memory["steps"]
    return (
        "**`tui-lab watch`**, a plain torch loop, alternating with the same loop not watched (`tui-lab bench watch`). "
        f"Memory from step {first:,} to {last:,} of a tiny model: {memory['watched']['growth_mib']:+.1f} MiB, "
        f"not watched {memory['plain']['growth_mib']:+.1f} MiB.\n\n"
        + table(("model", "ms per step", "watched", "overhead", "95% interval", "limit"), rows)
    )


def _sweep(figures: Figures) -> str:
    rows = [
        [
            f"{preset}, {part['steps']:,} steps, `{name}`",
            f"{row['jobs']} × {row['threads']}",
            f"{row['trials_per_minute']:.1f}",
            f"{part['auto_is_faster']:.2f}" if name.endswith("auto") else "1",
        ]
        for preset, part in figures["presets"].items()
        for name, row in part["rows"].items()
    ]
    return (
        f"**Sweeps**, {figures['trials']} trials from start to end, alternating (`tui-lab bench sweep`).\n\n"
        + table(("sweep", "jobs × threads", "trials per minute", "times as many"), rows)
    )


def _flat(figures: Figures) -> str:
    events = figures["events"]
    corpus = figures["corpus"]
    time_per_event = events["microseconds_an_event"]
    memory = events["memory_mib"]
    encoding = corpus["memory_mib"]
    rows = [
        [
            f"one of {events['events']:,} events, first and last part",
            f"{time_per_event['first']:.1f} µs, {time_per_event['last']:.1f} µs",
        ],
        ["memory, first and last part", f"{memory['first']:.0f} MiB, {memory['last']:.0f} MiB"],
        [f"opening that run ({events['record_mib']:.0f} MiB of events) to draw it", f"{events['open_s']:.2f} s"],
        [f"encoding {corpus['mib']:,} MiB with GPT-2's BPE", f"{corpus['mib_per_s']:.1f} MiB/s"],
        [
            "tiktoken's encode_ordinary_batch",
            f"{corpus['tiktoken_batch_mib_per_s']:.1f} MiB/s: ours is {100 * corpus['share']:.0f}%",
        ],
        ["memory before encoding and at its peak", f"{encoding['before']:.0f} MiB, {encoding['peak']:.0f} MiB"],
    ]
    return "**Long runs and large corpora**\n\n" + table(("measurement", "figure"), rows)


def _start(figures: Figures) -> str:
    names = {
        "help": "`tui-lab --help`",
        "first_frame": "the first frame",
        "first_step": "`run reverse` to its first step",
    }
    rows = [
        [
            label,
            f"{figures[name]['median_s']:.2f}",
            f"{figures[name]['spread_s'][0]:.2f} … {figures[name]['spread_s'][1]:.2f}",
        ]
        for name, label in names.items()
    ]
    return "**Start**\n\n" + table(("until", "median s", "range"), rows)
