"""The verdict of a comparison of runs, as text."""

from collections.abc import Iterator, Mapping, Sequence

from tui_lab.core.config.schema import Config
from tui_lab.core.config.script import is_imported
from tui_lab.core.runs.compare import AtEqual, MeasuredValue
from tui_lab.core.runs.compare_groups import CurvesPart, GroupComparison
from tui_lab.core.runs.parting import Parting
from tui_lab.core.runs.seed_groups import SeedGroup, captured_seed
from tui_lab.core.runs.start_difference import StartDifference
from tui_lab.core.runs.verdict import CONFIDENCE, Verdict
from tui_lab.runs.code_text import code_diff_text, files_text
from tui_lab.runs.numbers import short_number

AXIS_NAMES = {"steps": "steps", "tokens": "tokens", "seconds": "time"}
MOST_SETTINGS = 4
"""Settings that one line names."""
METRIC_NAMES = {"val_loss": "validation loss", "train_loss": "mean train loss, as not every run was evaluated"}


def verdict_lines(comparison: GroupComparison, group_names: Mapping[str, str]) -> list[str]:
    """Return the title, a verdict for each axis, where the curves part, and which runs were left out.

    group_names: by the name of a group's first run, the name of the group; without one, it has that of the run.
    """
    lines = [_title(comparison, group_names)]
    if comparison.problem:
        return [*lines, f"  no verdict: {comparison.problem}"]
    lines += [f"  at equal {names}: {at_equal_text(at)}" for names, at in _merged(comparison.at)]
    missing = [name for axis, name in AXIS_NAMES.items() if axis not in [at.axis for at in comparison.at]]
    lines += [f"  at equal {name}: no verdict, as a run has no evaluation until then, or no {name}" for name in missing]
    if any(at.verdict.outcome == "one_seed" for at in comparison.at):
        lines += [f"  {advice}" for advice in _seed_advice(comparison)]
    if comparison.part is not None:
        lines += [f"  {line}" for line in parting_lines(comparison.part)]
    for group in (comparison.baseline, comparison.group):
        lines += [f"  not counted: {name} ({reason})" for name, reason in group.left_out.items()]
    return lines


def _seed_advice(comparison: GroupComparison) -> list[str]:
    """Return how to get more seeds: with an option of our trainer, or a setting of the script."""
    configs = [group.runs[0].config for group in (comparison.baseline, comparison.group)]
    if any(isinstance(config, Config) for config in configs):
        return ["train each with two or more seeds, in the same folder: --set train.seed=1"]
    if any(is_imported(config) for config in configs):
        return ["an imported run counts as one seed"]
    seeds = [seed for seed in map(captured_seed, configs) if seed is not None]
    name = f"another value of {seeds[0][0]} (it is {seeds[0][1]})" if seeds else "another seed"
    return [f"train each again with {name}, in the same folder"]


def verdict_line(comparison: GroupComparison) -> str:
    """Return the verdict at equal steps in one line, and where the curves part."""
    names = f"{comparison.group.runs[0].name} against {comparison.baseline.runs[0].name}"
    if comparison.problem or not comparison.at:
        return f"{names}: no verdict: {comparison.problem or 'a run has no evaluation yet'}"
    n_seeds = f"{len(comparison.group.runs)} and {len(comparison.baseline.runs)} seeds"
    at = comparison.at[0]
    line = f"{names} ({n_seeds}): {verdict_text(at.verdict)} at {at.amount:,.0f} {at.axis}"
    step = None if comparison.part is None else comparison.part.parting.beyond_noise
    return line if step is None else f"{line}; curves part by step {step:,}"


def _title(comparison: GroupComparison, group_names: Mapping[str, str]) -> str:
    title = f"{_named(comparison.group, group_names)} against {_named(comparison.baseline, group_names)}"
    return title if comparison.metric is None else f"{title}, {METRIC_NAMES[comparison.metric]}"


def _named(group: SeedGroup, group_names: Mapping[str, str]) -> str:
    """Return the name of the group, with the seeds."""
    first = group.runs[0].name
    name = group_names.get(first, first)
    if len(group.runs) == 1:
        return f"{name} (1 seed)"
    seeds = ", ".join("?" if seed is None else str(seed) for seed in group.seeds)
    return f"{name} ({len(group.runs)} seeds: {seeds})"


def _merged(verdicts: Sequence[AtEqual]) -> Iterator[tuple[str, AtEqual]]:
    """Yield the verdicts with the names of their axes; those of the same values once."""
    names: dict[tuple[object, ...], list[str]] = {}
    first: dict[tuple[object, ...], AtEqual] = {}
    for at in verdicts:
        values = (at.baseline, at.group)
        names.setdefault(values, []).append(AXIS_NAMES[at.axis])
        first.setdefault(values, at)
    for key, of_values in names.items():
        yield " and ".join(of_values), first[key]


def at_equal_text(at: AtEqual) -> str:
    """Return a verdict with its numbers and where the values were measured."""
    amount = f"{at.amount:,.1f} s" if at.axis == "seconds" else f"{at.amount:,.0f} {at.axis}"
    return f"{verdict_text(at.verdict)}; at {amount}{_measured_at(at)}"


def _measured_at(at: AtEqual) -> str:
    """Return at which steps the runs were evaluated, unless all at the same one."""
    steps = [_range(values) for values in (at.baseline, at.group)]
    if len(set(steps)) == 1 and "to" not in steps[0]:
        return "" if at.axis == "steps" else f", step {steps[0]}"
    return f" (step {steps[1]} against {steps[0]})"


def _range(values: Sequence[MeasuredValue]) -> str:
    low = min(value.steps for value in values)
    high = max(value.steps for value in values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def verdict_text(verdict: Verdict) -> str:
    """Return better, worse, no difference or that it cannot be told, with the means and the interval."""
    means = f"{short_number(verdict.mean_group)} against {short_number(verdict.mean_baseline)}"
    match verdict.outcome:
        case "one_seed":
            return f"one seed cannot tell: {means}"
        case "not_finite":
            return f"no verdict, since a value is not finite: {means}"
        case "no_difference":
            outcome = "no difference beyond the noise of the seeds"
        case outcome:
            pass
    assert verdict.interval is not None
    low, high = (signed(value) for value in (verdict.interval.low, verdict.interval.high))
    return f"{outcome}: {means}, {signed(verdict.difference)} ({CONFIDENCE:.0%} interval {low} to {high})"


def signed(value: float) -> str:
    """Return a number with its sign."""
    text = short_number(abs(value))
    return f"-{text}" if value < 0 else f"+{text}"


def parting_lines(part: CurvesPart) -> list[str]:
    """Return where the train losses of two runs part, and what changed there."""
    parting = part.parting
    names = " and ".join(part.runs)
    if not parting.n_common:
        return [f"the train losses of {names} have no step in common"]
    if parting.first_difference is None:
        return [f"the train losses of {names} are identical in all {parting.n_common:,} common steps"]
    lines = [f"the train losses of {names} {_differ(parting)}{_beyond(parting, part.runs[1])}"]
    lines += _start_lines(part.start, has_causes=bool(parting.causes))
    for cause in parting.causes:
        lines.append(f"  step {cause.step:,}: {_cause_prefix(cause.kind, part.runs[cause.run])}{cause.text}")
    return lines


def _start_lines(start: StartDifference, *, has_causes: bool) -> list[str]:
    """Return what the runs differ in from the start, or that it is not known.

    has_causes: whether changes are listed after it, which are then not the only thing that differs.
    """
    lines = []
    parts = []
    if start.settings:
        more = len(start.settings) - MOST_SETTINGS
        parts.append(", ".join(start.settings[:MOST_SETTINGS]) + (f" and {more} more settings" if more > 0 else ""))
    if start.code is not None and start.code.files:
        parts.append(f"the code: {files_text(start.code.files)}")
    if parts:
        lines.append(f"  from the start differ: {'; '.join(parts)}")
    if start.unknown:
        lines.append(f"  the settings of {' and '.join(start.unknown)} are not known")
    if start.code is not None and start.code.unrecorded:
        lines.append(f"  {code_diff_text(start.code)}")
    if has_causes:
        return [*lines, "  also near these steps, which need not be the cause:"] if lines else []
    return lines or ["  nothing that was recorded differs before"]


def _differ(parting: Parting) -> str:
    """Return up to where the losses are equal, in steps that both runs have."""
    first, last = parting.first_difference, parting.last_identical
    assert first is not None
    if last is None:
        return f"differ from step {first:,} on" + (", the first that both have" if first > 1 else "")
    if last == first - 1:
        return f"are identical up to step {last:,}"
    return f"are identical up to step {last:,}, and not at step {first:,}, the next that both have,"


def _beyond(parting: Parting, second: str) -> str:
    if parting.beyond_noise is None or parting.difference is None:
        return " and never part beyond their noise from step to step"
    side = "lower" if parting.difference < 0 else "higher"
    size = short_number(abs(parting.difference))
    until = "" if parting.until is None else f"; after step {parting.until:,} it is no longer clearly beyond the noise"
    return f" and have parted by step {parting.beyond_noise:,}: smoothed, {second} is {size} {side}{until}"


def _cause_prefix(kind: str, run: str) -> str:
    match kind:
        case "lr":
            return "the learning rates differ from here on: "
        case "tokens":
            return "the tokens so far differ from here on: "
        case _:
            return f"{run}: "
