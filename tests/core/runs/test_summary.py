"""The summary of a run and the requirements on it."""

import math

import pytest

from tests.core.recorded import summary
from tests.core.tiny import trainer
from tui_lab.core.runs.summary import METRICS, parse_requirement, read_summary, summarize, unmet
from tui_lab.util.errors import ConfigError
from tui_lab.util.strict_json import dumps


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("compare", "expected"),
    [
        ("<=", (True, True, False)),
        ("<", (True, False, False)),
        (">=", (False, True, True)),
        (">", (False, False, True)),
    ],
)
def test_requirement_compares_the_metric(metric: str, compare: str, expected: tuple[bool, ...]) -> None:
    requirement = parse_requirement(f" {metric} {compare} 1e0 ")
    assert tuple(requirement.met(summary(**{metric: value})) for value in (0.5, 1.0, 1.5)) == expected
    assert not requirement.met(summary(**{metric: None}))
    assert not requirement.met(summary(**{metric: math.nan}))


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("val_loss<=baseline", 2.0),
        ("val_loss<=baseline+0.02", 2.02),
        ("val_loss<=baseline - 1", 1.0),
        ("val_loss<=baseline*1.5", 3.0),
    ],
)
def test_bound_may_be_relative_to_a_baseline(text: str, bound: float) -> None:
    requirement = parse_requirement(text, summary(val_loss=2.0))
    assert (requirement.bound, requirement.text) == (bound, text.replace(" ", ""))


def test_requirement_with_an_unknown_metric_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_requirement("val_los<=1")
    [problem] = caught.value.problems
    assert (problem.code, problem.key, problem.value) == ("unknown_name", "--require", "val_los")
    assert problem.suggestion == "val_loss"


@pytest.mark.parametrize("text", ["val_loss", "val_loss==1", "val_loss<=low", ""])
def test_malformed_requirement_is_refused(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_requirement(text)
    [problem] = caught.value.problems
    assert (problem.code, problem.key, problem.value) == ("invalid", "--require", text)


def test_unmet_requirement_is_listed_with_the_measured_value() -> None:
    requirements = [parse_requirement("val_loss<=1"), parse_requirement("exact_match>=0.5")]
    run = summary(val_loss=2.5, exact_match=1.0)
    assert unmet(requirements, run) == ["val_loss ≤ 1: 2.5"]
    assert requirements[1].measured(run) == "exact_match ≥ 0.5: 1.00"
    loss = summary(val_loss=2.0971912)
    assert parse_requirement("val_loss<2.5").measured(loss) == "val_loss < 2.5: 2.097"
    assert parse_requirement("val_loss<=2.097").measured(loss) == "val_loss ≤ 2.097: 2.0971912", "not 2.097"


def test_summary_has_the_results_of_the_run() -> None:
    now = iter(range(1000))
    training = trainer("train.eval_every=4", clock=lambda: next(now))
    result = summarize(training.events()).summary("here")
    assert (result.run, result.reason, result.steps) == ("here", "done", 8)
    assert result.train_loss == training.progress.loss_ema
    # One tick for each of 8 steps, and one more where the time to make the batch is measured.
    assert (result.tokens, result.train_seconds) == (8 * 4 * 5, 9)
    assert result.best_val_loss == training.progress.best_val_loss
    assert result.perplexity is None and result.exact_match is not None and 0 <= result.exact_match <= 1


def test_run_without_an_end_is_interrupted() -> None:
    events = trainer().events()
    assert summarize([next(events), next(events)]).summary("here").reason == "interrupted"


@pytest.mark.parametrize("loss", [1.5, math.inf, -math.inf, None])
def test_summary_survives_json(loss: float | None) -> None:
    written = summary(train_loss=loss, faults=("no_mask",))
    assert read_summary(dumps(written.to_json())) == written


@pytest.mark.parametrize(("old", "new"), [("asked", "stopped"), ("unfinished", "interrupted")])
def test_reasons_of_old_summaries_are_read(old: str, new: str) -> None:
    assert read_summary(dumps(summary().to_json() | {"reason": old})).reason == new


@pytest.mark.parametrize("change", [{"steps": "x"}, {"steps": -1}, {"faults": 3}, {"reason": "bored"}, {"run": None}])
def test_summary_of_another_shape_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="not a summary"):
        read_summary(dumps(summary().to_json() | change))
