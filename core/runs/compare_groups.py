"""Compare runs, together with the other seeds of their settings, with the first of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tui_lab.core.config.script import ImportedConfig
from tui_lab.core.runs.catalog import RunRow
from tui_lab.core.runs.compare import AXES, AtEqual, Course, CourseMetric, at_equal, common_metric, course_of
from tui_lab.core.runs.folder import Run
from tui_lab.core.runs.importing.source import TRAINER_STATE
from tui_lab.core.runs.parting import Parting, find_parting
from tui_lab.core.runs.seed_groups import SeedGroup, different_task, group_by_seed, seed_of
from tui_lab.core.runs.start_difference import StartDifference, start_difference
from tui_lab.util.errors import RunError


@dataclass(frozen=True)
class CurvesPart:
    """Where the train losses of two runs part; of the same seed, if there are such runs.

    start: what the two differ in before their first step.
    """

    runs: tuple[str, str]
    parting: Parting
    start: StartDifference = StartDifference()

    def to_json(self) -> dict[str, Any]:
        return {"runs": self.runs} | self.parting.to_json() | {"start": self.start.to_json()}


@dataclass(frozen=True)
class GroupComparison:
    """A group of runs against a baseline.

    at: the verdicts; empty where there is none, and `problem` is the reason. problem: why the groups are not compared.
    """

    baseline: SeedGroup
    group: SeedGroup
    metric: CourseMetric | None = None
    at: tuple[AtEqual, ...] = ()
    part: CurvesPart | None = None
    problem: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "baseline": _group_json(self.baseline),
            "group": _group_json(self.group),
            "metric": self.metric,
            "verdicts": [at.to_json() for at in self.at],
            "parting": self.part and self.part.to_json(),
            "problem": self.problem or None,
        }


def _group_json(group: SeedGroup) -> dict[str, Any]:
    runs = [{"run": str(row.path), "name": row.name, "seed": seed_of(row.config)} for row in group.runs]
    return {"runs": runs, "left_out": dict(group.left_out)}


def compare_groups(rows: Sequence[RunRow]) -> list[GroupComparison]:
    """Compare each group of runs with the first group; none if all runs differ only in their seed.

    Other seeds in the folders of the runs take part. Runs that cannot be read are left out.
    """
    groups = group_by_seed([row for row in rows if row.config is not None])
    courses: dict[str, Course] = {}
    return [_compare(groups[0], group, courses) for group in groups[1:]]


def _compare(baseline: SeedGroup, group: SeedGroup, courses: dict[str, Course]) -> GroupComparison:
    """courses: those that were read so far, by path."""
    configs = [runs.runs[0].config for runs in (baseline, group)]
    assert configs[0] is not None and configs[1] is not None
    if key := different_task(configs[0], configs[1]):
        return GroupComparison(baseline, group, problem=f"their losses cannot be compared, since {key} differs")
    try:
        for row in (*baseline.runs, *group.runs):
            if str(row.path) not in courses:
                courses[str(row.path)] = _course(row)
    except (RunError, OSError) as error:
        return GroupComparison(baseline, group, problem=str(error))
    of_baseline, of_group = ([courses[str(row.path)] for row in runs.runs] for runs in (baseline, group))
    metric = common_metric([*of_baseline, *of_group])
    if metric is None:
        return GroupComparison(baseline, group, problem="a run has no loss yet")
    verdicts = [at_equal(axis, of_baseline, of_group, metric) for axis in AXES]
    a, b = _pair(baseline, group)
    parting = find_parting(courses[str(a.path)], courses[str(b.path)])
    part = CurvesPart((a.name, b.name), parting, start_difference(a, b))
    return GroupComparison(baseline, group, metric, tuple(at for at in verdicts if at is not None), part)


def _course(row: RunRow) -> Course:
    """Return the course of a run. Raises RunError, OSError."""
    config = row.config
    has_means = isinstance(config, ImportedConfig) and config.source.format == TRAINER_STATE
    return course_of(Run(row.path).events(), has_interval_means=has_means)


def _pair(baseline: SeedGroup, group: SeedGroup) -> tuple[RunRow, RunRow]:
    """Return the first runs with the same seed, else the first of each group."""
    for a in baseline.runs:
        for b in group.runs:
            if seed_of(a.config) is not None and seed_of(a.config) == seed_of(b.config):
                return a, b
    return baseline.runs[0], group.runs[0]
