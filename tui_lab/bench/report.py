"""All benchmarks one after the other, and their figures as the tables of docs/performance.md."""

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

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
SIZES = ("80x24", "200x50")
Figures = dict[str, Any]


def bench_all(text: str, say: Callable[[str], None], so_far: Callable[[Figures], None]) -> Figures:
    """Every figure as JSON values, without the parts that `failed`.

    Each part is a process of its own, so that none keeps the memory or the threads of the one before. `say` is told
    what is being measured and what failed, `so_far` all figures after each part.
    """
    found: Figures = {"machine": machine(), "date": time.strftime("%Y-%m-%d"), "text": Path(text).name,
                      "failed": []}  # fmt: skip
    parts: dict[str, Callable[[], Any]] = {
        "start": lambda: _measure("start"),
        "train": lambda: _measure("train"),
        "reverse": lambda: _measure("train", "--preset", "reverse"),
        "generate": lambda: _measure("generate"),
        "flat": lambda: _measure("flat"),
        "ui": lambda: [_measure("ui", "--size", size) for size in SIZES],
        "headline": lambda: _measure("headline", "--text", text),
    }
    for name, part in parts.items():
        say(f"measuring: {name}")
        try:
            found[name] = part()
        except subprocess.CalledProcessError as error:
            found["failed"].append(name)
            say(f"not measured: {name}: exit code {error.returncode}")
        so_far(found)
    return found


def _measure(*arguments: str) -> Any:
    """What `tui-lab bench` finds; its words go to stderr. Raises CalledProcessError."""
    command = python_module("tui_lab", "bench", *arguments, "--json")
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, env=child_environment()).stdout)


def write_into(path: Path, figures: Figures) -> None:
    """Replace what stands between the two marks in `path`. Raises ConfigError where they are not."""
    try:
        before, _, rest = path.read_text("utf-8").partition(BEGIN)
    except OSError as error:
        raise ConfigError([f"--write {path}: {error.strerror}"]) from error
    _, mark, after = rest.partition(END)
    if not mark:
        raise ConfigError([f"--write {path}: a file with the lines {BEGIN} and {END} is allowed"])
    files.write_text(path, f"{before}{BEGIN}\n{markdown(figures)}\n{END}{after}")


def markdown(figures: Figures) -> str:
    """The tables of one run of `bench_all`, or of as much of it as there is."""
    m = figures["machine"]
    words = (f"{figures['date']}, `make bench` on {m['cores']} cores ({m['processor']}), {m['memory_gib']} GiB, "
             f"{m['threads']} threads, {m['system']}, Python {m['python']}, torch {m['torch']}.")  # fmt: skip
    tables: dict[str, Callable[[Any], str]] = {
        "train": _train, "reverse": _train, "generate": _generate,
        "headline": lambda found: _headline(found, figures["text"]), "ui": _ui, "flat": _flat, "start": _start,
    }  # fmt: skip
    return "\n\n".join((words, *(table(figures[name]) for name, table in tables.items() if name in figures)))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _train(found: Figures) -> str:
    rows = [
        [name, f"{row['parameters']:,}", f"{1000 * row['median_s']:.1f}",
         f"{1000 * row['quartiles_s'][0]:.1f} … {1000 * row['quartiles_s'][1]:.1f}",
         "1" if name == "tui-lab" else f"{row['ours_is_faster']:.2f}", f"{100 * row['share_of_limit']:.0f} %"]
        for name, row in found["rows"].items()
    ]  # fmt: skip
    limits = ", ".join(f"{name} {speed:.0f}" for name, speed in found["gemm_gflop_per_s"].items())
    agree = "; ".join(
        f"{name} to {found_['largest_relative_difference']:.1e}" for name, found_ in found["losses_agree"].items()
    )
    absent = "".join(f" {name}: {why}." for name, why in found["absent"].items())
    return (
        f"**Training, `{found['preset']}`**, {found['batch'][0]}×{found['batch'][1]}, {found['gflop_a_step']:.2f} "
        f"GFLOP a step. GEMM of 2048³ in the same run, GFLOP/s: {limits}. First losses agree with: {agree}.{absent}\n\n"
        + table(("who", "parameters", "ms a step", "quartiles", "ours is faster, times", "of the GEMM limit"), rows)
    )


def _generate(found: Figures) -> str:
    rows = [[name, f"{row['tokens_per_s']:.0f}", f"{row['quartiles'][0]:.0f} … {row['quartiles'][1]:.0f}",
             "1" if name.startswith("tui-lab") else f"{row['ours_is_faster']:.2f}"]
            for name, row in found["rows"].items()]  # fmt: skip
    first = found["first_token_ms"]
    return (
        f"**Generation**, {found['new_tokens']} tokens after {found['prompt_tokens']}. First token after a prompt of "
        f"{first['prompt_tokens']}: {first['median']:.0f} ms, at most {first['largest']:.0f} ms.\n\n"
        + table(("who", "tokens/s", "quartiles", "ours is faster, times"), rows)
    )


def _headline(found: Figures, text: str) -> str:
    rows = [[name, f"{row['wall_s']:.0f}", f"{row['train_seconds']:.0f}", f"{row['steps']:,}",
             f"{row['train_loss']:.3f}", f"{row['val_loss']:.2f}", f"{row['peak_memory_mib']:,}"]
            for name, row in found["rows"].items()]  # fmt: skip
    times = found["rows"]["tui-lab"].get("loop_takes_times")
    words = f" The loop takes {times:.2f} times as long." if times else ""
    return (
        f"**The journal's final model on `{text}` to a running train loss of {found['target_train_loss']}.**{words}\n\n"
        + table(("who", "s in all", "s in steps", "steps", "train loss", "validation loss", "peak MiB"), rows)
    )


def _ui(found: list[Figures]) -> str:
    rows = []
    for size in found:
        for preset, cost in size["cost"].items():
            keys, speaking = size["key_to_paint"][preset], size["key_to_paint_while_speaking"].get(preset)
            rows.append(
                [f"{preset}, {size['size'][0]}×{size['size'][1]}", f"{100 * cost['share']:.1f} %",
                 f"{100 * cost['share_95'][0]:.1f} … {100 * cost['share_95'][1]:.1f}", f"{keys['p99_ms']:.0f}",
                 f"{speaking['p99_ms']:.0f}" if speaking else "–"]
            )  # fmt: skip
    return "**The app**, in a pseudo-terminal, by turns with headless training.\n\n" + table(
        ("preset, terminal", "of headless steps/s", "95 % interval", "key to paint, p99 ms", "while speaking"), rows
    )


def _flat(found: Figures) -> str:
    events, corpus = found["events"], found["corpus"]
    us, memory = events["microseconds_an_event"], events["memory_mib"]
    rows = [
        [f"an event of {events['events']:,}, first and last part", f"{us['first']:.1f} µs, {us['last']:.1f} µs"],
        ["memory, first and last part", f"{memory['first']:.0f} MiB, {memory['last']:.0f} MiB"],
        [f"opening that run ({events['record_mib']:.0f} MiB of record), to draw it", f"{events['open_s']:.2f} s"],
        [f"encoding {corpus['mib']:,} MiB by GPT-2's BPE", f"{corpus['mib_per_s']:.1f} MiB/s"],
        ["tiktoken's own batch",
         f"{corpus['tiktoken_batch_mib_per_s']:.1f} MiB/s: ours is {100 * corpus['share']:.0f} %"],
        ["memory before encoding, at its peak",
         f"{corpus['memory_mib']['before']:.0f} MiB, {corpus['memory_mib']['peak']:.0f} MiB"],
    ]  # fmt: skip
    return "**What is long**\n\n" + table(("what", "figure"), rows)


def _start(found: Figures) -> str:
    names = {
        "help": "`tui-lab --help`",
        "first_frame": "the first frame",
        "first_step": "`run reverse` to its first step",
    }
    rows = [
        [
            words,
            f"{found[name]['median_s']:.2f}",
            f"{found[name]['spread_s'][0]:.2f} … {found[name]['spread_s'][1]:.2f}",
        ]
        for name, words in names.items()
    ]
    return "**Start**\n\n" + table(("until", "median s", "range"), rows)
