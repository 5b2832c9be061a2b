import pytest

from tests.core.tiny import trainer
from tui_lab.core.runs.summary import METRICS, parse_requirement, summarise, unmet
from tui_lab.util.errors import ConfigError


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("compare", "met"),
    [
        ("<=", (True, True, False)),
        ("<", (True, False, False)),
        (">=", (False, True, True)),
        (">", (False, False, True)),
    ],
)
def test_each_metric_with_each_comparison(metric: str, compare: str, met: tuple[bool, ...]) -> None:
    wanted = parse_requirement(f" {metric} {compare} 1e0 ")
    assert tuple(wanted.met({metric: value}) for value in (0.5, 1.0, 1.5)) == met
    assert not wanted.met({metric: None}) and not wanted.met({})
    assert not wanted.met({metric: float("nan")}), "a loss that is not a number meets nothing"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("val_los<=1", "unknown metric val_los; did you mean val_loss?"),
        ("val_loss", "write METRIC<=NUMBER"),
        ("val_loss==1", "write METRIC<=NUMBER"),
        ("val_loss<=low", "write METRIC<=NUMBER"),
    ],
)
def test_a_requirement_that_cannot_be_read_says_why(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_requirement(text)
    assert words in str(caught.value)


def test_what_is_unmet_is_told_with_what_was_found() -> None:
    requirements = [parse_requirement("val_loss<=1"), parse_requirement("exact_match>=0.5")]
    assert unmet(requirements, {"val_loss": 2.5, "exact_match": 1.0}) == ["required val_loss<=1, found 2.5"]


def test_a_summary_says_what_the_run_came_to() -> None:
    now = iter(range(1000))
    training = trainer("train.eval_every=4", clock=lambda: next(now))
    summary = summarise(training.events()).summary("here")
    assert (summary["run"], summary["reason"], summary["steps"]) == ("here", "done", 8)
    assert summary["train_loss"] == training.progress.loss_ema
    # A tick for each of 8 updates, and one more where the batch's share is measured.
    assert summary["tokens"] == 8 * 4 * 5 and summary["train_seconds"] == 9
    assert summary["best_val_loss"] == training.progress.best_val_loss
    assert summary["perplexity"] is None and 0 <= summary["exact_match"] <= 1


def test_a_run_without_an_end_is_unfinished() -> None:
    events = trainer().events()
    assert summarise([next(events), next(events)]).summary("here")["reason"] == "unfinished"
