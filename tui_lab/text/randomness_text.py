"""The text of a comparison of two runs: whether they are the same, what decides it, and what to do."""

from collections.abc import Iterator, Sequence

from rich.table import Table
from rich.text import Text

from tui_lab.core.watch.randomness.sources import HASH_SEED, HASHES, NUMPY, OWN, PYTHON, TORCH, ScriptSource, label_of
from tui_lab.core.watch.randomness.trace import PATH, Difference
from tui_lab.core.watch.randomness.traced_runs import TracedRun
from tui_lab.core.watch.randomness.verdict import FIRST_RUNS, KERNELS, RandomnessVerdict
from tui_lab.util.plural import counted

_SAME = {
    "weights": "initial weights",
    "batch": "batches",
    "loss": "training losses",
    "gradient": "gradients",
    "setting": "settings of the optimizer",
    "update": "updated weights",
}
_STYLES = {
    "pinned": "green",
    "free": "bold yellow",
    "changes": "bold yellow",
    "cause": "bold red",
    "no effect": "dim",
    "not used": "dim",
}
MOST_FILES = 3
_NUMBERS = {2: "two", 3: "three", 4: "four"}
_SEEDED_BY = {PYTHON: "random.seed(0)", NUMPY: "np.random.seed(0)", TORCH: "torch.manual_seed(0)"}


def verdict_lines(name: str, verdict: RandomnessVerdict) -> Iterator[str]:
    """Yield whether the runs are the same; and if not, what differs first, and why."""
    difference = verdict.difference
    if difference is None:
        compared = ", ".join(_SAME[kind] for kind in verdict.compared)
        runs = f"{_NUMBERS.get(verdict.n_runs, verdict.n_runs)} runs of {counted(verdict.n_steps, 'update')}"
        yield f"{name}: {runs} are the same to the last bit: {compared}"
        if verdict.n_runs > FIRST_RUNS:
            yield "what has no constant seed got one in two of them, another one in each"
        if verdict.problem:
            yield f"but not everything could be compared: {verdict.problem}"
    else:
        yield f"{name}: two runs differ, first in {_place(difference)}"
        if difference.before:
            yield f"the same before: {', '.join(_before(kind, difference) for kind in difference.before)}"
        if verdict.n_runs > FIRST_RUNS:
            yield "the first two runs were the same by chance: they differ with other seeds for what has none"
        yield from _cause_lines(verdict)
    if verdict.error:
        updates = counted(verdict.n_steps, "update")
        yield f"the script failed after {updates}, so that no later ones were compared: {verdict.error}"
    yield from _file_lines(verdict.first)


def _file_lines(run: TracedRun) -> Iterator[str]:
    """Yield which files may make a later run differ."""
    if run.written:
        yield (
            f"each run started without the files that it writes before its first update: {_some(run.written)}; a run "
            "that reads them may differ"
        )
    if run.changed:
        yield (
            f"each run started with these files as they are, but the script changes them before its first update: "
            f"{_some(run.changed)}; if it reads them, the next run of the script without tui-lab may differ"
        )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_FILES} more" if len(names) > MOST_FILES else ""
    return f"{', '.join(names[:MOST_FILES])}{more}"


def _cause_lines(verdict: RandomnessVerdict) -> Iterator[str]:
    yield from (cause_line(key, verdict) for key in verdict.causes)
    if verdict.remaining is not None and verdict.causes:
        yield f"with that fixed they still differ, first in {_place(verdict.remaining)}: {_UNKNOWN}"
    elif verdict.remaining is not None:
        yield f"no seed that was found explains that: {_UNKNOWN}"
    elif verdict.causes:
        yield "tested: with that fixed, the runs are the same"
    else:
        yield "with a seed for everything they are the same, whichever of the seeds changes: no cause is found"


def _before(kind: str, difference: Difference) -> str:
    """Return what was the same before a difference."""
    return f"earlier {_SAME[kind]}" if kind == difference.kind else _SAME[kind]


_UNKNOWN = (
    "the cause is something else, such as the time, threads, system randomness (secrets, os.urandom, uuid), or a "
    "generator of a library"
)


def _place(difference: Difference) -> str:
    """Return what differs, as the end of a sentence."""
    update = f"update {difference.step:,}"
    match difference.kind:
        case "weights":
            return f"the initial weights: {difference.name}"
        case "batch":
            return f"the batch of {update}: {difference.name}"
        case "loss":
            return f"the loss of {update}: {' and '.join(difference.values)}"
        case "setting":
            return f"the {difference.name} in {update}: {' and '.join(difference.values)}"
        case "gradient":
            return f"the gradient of {difference.name} in {update}"
        case "update":
            return f"{difference.name} after {update}"
        case _:
            assert difference.kind == PATH
            return f"what they do in {update}"


def state_of(source: ScriptSource, verdict: RandomnessVerdict) -> str:
    """Return what a source of randomness does: cause, changes, pinned, no effect, free or not used.

    changes: its seed is another number in each run. A free one, which has no seed, has no effect if the runs are the
    same with its numbers, whatever they were.
    """
    seeds = {call.key for call in source.seeds}
    if not {source.key, *seeds}.isdisjoint(verdict.causes):
        return "cause"
    if not source.is_drawn:
        return "not used"
    if not source.is_free:
        return "pinned" if seeds.isdisjoint(call.key for call, _ in verdict.changing_seeds) else "changes"
    return "free" if verdict.remaining is not None else "no effect"


def seed_text(source: ScriptSource, verdict: RandomnessVerdict) -> str:
    """Return how a source is seeded: by the call that changes, if there is one."""
    if source.kind == HASHES:
        return f"{HASH_SEED} is not set" if source.is_free else HASH_SEED
    if not source.seeds:
        return "none"
    changing = {call.key for call, _ in verdict.changing_seeds}
    first = next((call for call in source.seeds if call.key in changing), source.seeds[0])
    place = f", {first.place}" if first.place else ""
    more = f" and {len(source.seeds) - 1} more" if len(source.seeds) > 1 else ""
    call = f"{first.call}({first.value})" if first.is_given else f"{first.call}(), which drew {first.value}"
    return f"{call}{place}{more}"


def cause_line(key: str, verdict: RandomnessVerdict) -> str:
    """Return a cause and what removes it."""
    if key == KERNELS:
        return (
            "cause: torch kernels that add in a varying order; torch.use_deterministic_algorithms(True) chooses "
            "deterministic ones, which may be slower"
        )
    if key == HASHES:
        return (
            "cause: string hashes, which differ between processes: sort sets, as in sorted(set(text)), and do not use "
            "hash() of strings"
        )
    changing = next((calls for calls in verdict.changing_seeds if calls[0].key == key), None)
    if changing is not None:
        one, other = changing
        constant = "call torch.manual_seed(0) instead" if one.call == "torch.seed" else "give it a constant"
        return f"cause: {label_of(key)} gets a different seed in each run, {one.value} and {other.value}; {constant}"
    source = next(source for source in verdict.sources if source.key == key)
    if source.kind == OWN:
        return f"cause: {label_of(key)} has no seed; give it one, as in {source.call[:-1]}0)"
    if source.seeds:
        first = source.seeds[0]
        late = f"gets its seed in {first.place}, after numbers were drawn from it"
        return f"cause: {label_of(key)} {late}; call {first.call}({first.value}) at the start of the script"
    return f"cause: {label_of(key)} has no seed; call {_SEEDED_BY[key]} at the start of the script"


def sources_table(verdict: RandomnessVerdict) -> Table:
    """Return a row for each source that is used or has a seed."""
    table = Table("source")
    table.add_column("seed", overflow="fold")
    table.add_column("state", no_wrap=True)
    for source in verdict.sources:
        if source.is_drawn or source.seeds:
            state = state_of(source, verdict)
            table.add_row(Text(label_of(source.key)), Text(seed_text(source, verdict)), Text(state, _STYLES[state]))
    return table
