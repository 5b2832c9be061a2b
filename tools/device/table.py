"""The output: one table of the parts, the failed checks, the speed and the headline."""

from collections.abc import Iterator
from typing import Any

from tools.device.runner import Outcome

_SPEED = "{:<17} {:<29} {:>10} {:>12} {:>9} {:>10} {:>12}"
_HEADLINE = "{:<35} {:>8} {:>7} {:>10} {:>7}"


def rows_of(outcomes: dict[str, Outcome], table: str) -> list[dict[str, Any]]:
    """Return the figures of all rows of one table."""
    rows = [row for outcome in outcomes.values() for row in outcome.rows.values()]
    return [row["figures"] | {"name": row["name"], "ok": row["ok"]} for row in rows if row["table"] == table]


def peak_of(outcomes: dict[str, Outcome]) -> tuple[float, str] | None:
    """Return the bf16 peak that shares are computed from, in TFLOP/s, and where it is from."""
    facts = {row["name"]: row for row in rows_of(outcomes, "fact")}
    if from_datasheet := facts.get("machine", {}).get("bf16_peak_tflops"):
        tflops, source = from_datasheet
        return tflops, source
    measured = facts.get("GEMM bf16", {}).get("tflops")
    return (measured, "measured product of square matrices") if measured else None


def lines(outcomes: dict[str, Outcome], *, dry_run: bool) -> Iterator[str]:
    """Yield the table, line by line."""
    if dry_run:
        yield "Dry run on the CPU with tiny models: the figures say nothing about speed."
    yield from _facts(outcomes)
    yield ""
    yield "part               result       seconds  checks"
    for name, outcome in outcomes.items():
        yield from _part(name, outcome)
    yield from _speed(outcomes)
    yield from _headline(outcomes)


def _facts(outcomes: dict[str, Outcome]) -> Iterator[str]:
    for row in rows_of(outcomes, "fact"):
        if row["name"] == "machine":
            gpu = row.get("gpu", "no GPU")
            yield f"{gpu}; {row['processor']}; torch {row['torch']}, CUDA {row.get('cuda')}, Python {row['python']}"
        else:
            yield f"{row['name']}: {row['tflops']:.3g} TFLOP/s measured"


def _part(name: str, outcome: Outcome) -> Iterator[str]:
    checks = [row for row in outcome.rows.values() if row["table"] == "check"]
    passed = sum(row["ok"] for row in checks)
    yield f"{name:<18} {outcome.status:<11} {outcome.seconds:>8.1f}  {f'{passed} of {len(checks)}' if checks else ''}"
    if outcome.error:
        yield f"    {outcome.error}"
    for row in outcome.rows.values():
        if not row["ok"]:
            yield f"    {row['name']}: {row['figures']}"


def _speed(outcomes: dict[str, Outcome]) -> Iterator[str]:
    rows = rows_of(outcomes, "speed")
    if not rows:
        return
    peak = peak_of(outcomes)
    yield ""
    yield _SPEED.format("shape", "program", "ms a step", "tokens/s", "TFLOP/s", "% of peak", "times peer")
    for row in rows:
        share = f"{100 * row['tflops'] / peak[0]:.1f}" if peak else "?"
        times = row["times_best_peer"]
        yield _SPEED.format(
            row["shape"],
            row["program"],
            f"{row['ms_a_step']:.3f}",
            f"{row['tokens_per_s']:,.0f}",
            f"{row['tflops']:.3g}",
            share,
            "not compared" if times is None else f"{times:.2f}",
        )
    if peak:
        yield f"% of peak: of {peak[0]:,.5g} TFLOP/s in bf16 ({peak[1]})."
        yield "times peer: a step's time of the fastest nanoGPT-style loop over that of the program."


def _headline(outcomes: dict[str, Outcome]) -> Iterator[str]:
    rows = rows_of(outcomes, "headline")
    if not rows:
        return
    yield ""
    yield _HEADLINE.format("headline, to a train loss of 0.37", "seconds", "steps", "tokens", "loss")
    for row in rows:
        loss = row["train_loss"]
        yield _HEADLINE.format(
            row["program"],
            f"{row['seconds']:.1f}",
            row["steps"],
            f"{row['tokens']:,}",
            "?" if loss is None else f"{loss:.3f}",
        )
