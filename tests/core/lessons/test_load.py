"""Reading a lesson's folder: configs of its stages, and every problem with its file and key."""

from pathlib import Path

import pytest

from tests.core.lessons.example import LESSON, TEXT, write
from tui_lab.core.lessons import load, stage_text
from tui_lab.core.lessons.load import find_lesson, list_lessons, load_lesson
from tui_lab.util.errors import ConfigError, Problem


def problems(folder: Path) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        load_lesson(folder)
    return list(caught.value.problems)


def test_stages_have_texts_and_configs(tmp_path: Path) -> None:
    lesson = load_lesson(write(tmp_path / "rates"))
    assert lesson.name == "rates"
    assert [stage.id for stage in lesson.stages] == ["see", "predict", "try", "diagnose", "fix", "keep"]
    assert lesson.texts["see"] == "See it."
    see, trials, fix = (lesson.configs[name] for name in ("see", "try", "fix"))
    assert see.start is not None and see.start.train.steps == 4 and see.current == see.start
    assert [config.optim.lr for config in trials.trials] == [0.1, 1.0]
    assert trials.start is None and trials.current == see.start
    assert fix.start is not None and fix.start.faults == () and fix.start.train.steps == 4


def test_fix_keeps_the_last_curve_and_names_its_key(tmp_path: Path) -> None:
    see, predict, *_, fix, _ = load_lesson(write(tmp_path / "rates")).stages
    assert (see.keeps_last, fix.keeps_last) == (False, True)
    assert (see.action_text, predict.action_text, fix.action_text) == ("train", "", "fix")


@pytest.mark.parametrize(
    ("old", "new", "code", "key", "suggestion"),
    [
        ("title =", "titl =", "unknown_key", "titl", "title"),
        ('title = "Rates"\n', "", "missing", "title", ""),
        ("format = 1", "format = 2", "unknown_name", "format", ""),
        ('kind = "try"', 'kind = "tri"', "unknown_name", "stage.try.kind", "try"),
        ('pane = "loss"', 'pane = "los"', "unknown_name", "stage.see.pane", "loss"),
        ("loss_below", "los_below", "unknown_key", "stage.fix.until.los_below", "loss_below"),
        ("label = ", "labl = ", "unknown_key", "stage.try.trial.1.labl", "label"),
        ("rows.toml", "row.toml", "unknown_name", "stage.see.run.config", "rows.toml"),
        ("optim.lr = 0.1", "lr = 0.1", "unknown_key", "stage.try.trial.1.set: lr", "optim.lr"),
        ("optim.lr = 0.1", "optim.lr = -1", "invalid", "stage.try.trial.1.set: optim.lr", ""),
        ('near = "ln_vocab_size"', 'near = "ln_vocab"', "unknown_name", "stage.see.fact.1.near", "ln_vocab_size"),
        ('step = "lowest"', 'step = "low"', "unknown_name", "stage.try.fact.1.step", "lowest"),
        ('"double_softmax"', '"double_softmaks"', "unknown_name", "stage.diagnose.diagnose.finding", "double_softmax"),
        ("right = 2", "right = 3", "invalid", "stage.diagnose.question.right", ""),
        (', "So it is."', "", "invalid", "stage.diagnose.question.reasons", ""),
        ('answer = "ln_vocab_size"\n', "", "missing", "stage.predict.question.answer", ""),
        ("until = { step = 4 }", "until = { step = 5 }", "conflict", "stage.see.until.step", ""),
        ('id = "try"', 'id = "see"', "exists", "stage.see.id", ""),
        ('id = "try"', 'id = "Try it"', "invalid", "stage.Try it.id", ""),
        ("run = {", "fix = { set = { faults = [] } }\nrun = {", "conflict", "stage.see.fix", ""),
        ("above = 0.5\n", "", "missing", "stage.try.fact.1.near", ""),
        ('runs = "trials"', 'runs = "trial"', "unknown_name", "stage.try.fact.1.runs", "trials"),
        ('step = "lowest"', 'step = "lowest"\nwithin = 0.1', "conflict", "stage.try.fact.1.within", ""),
        ('runs = "trials"', 'trial = "lr 0.2"', "unknown_name", "stage.try.fact.1.trial", "lr 0.1"),
        ('runs = "trials"', 'runs = "trials"\ntrial = "lr 1"', "conflict", "stage.try.fact.1.trial", ""),
        ('label = "lr 1"', 'label = "lr 0.1"', "exists", "stage.try.trial.2.label", ""),
        ("format = 1", "format = ", "unreadable", "", ""),
    ],
)  # fmt: skip
def test_problem_names_file_key_and_nearest_name(
    tmp_path: Path, old: str, new: str, code: str, key: str, suggestion: str
) -> None:
    assert LESSON.count(old) >= 1
    folder = write(tmp_path / "rates", LESSON.replace(old, new, 1))
    first = problems(folder)[0]
    file = str(folder / "lesson.toml")
    assert (first.code, first.key, first.suggestion) == (code, f"{file}: {key}" if key else file, suggestion)


def test_every_problem_is_reported_at_once(tmp_path: Path) -> None:
    lesson = LESSON.replace("rows.toml", "row.toml").replace('id = "keep"', 'id = "kept"')
    found = problems(write(tmp_path / "rates", lesson))
    keys = {problem.key.partition(": ")[2] for problem in found}
    assert keys == {"stage.see.run.config", "## keep", "## kept"}, "not the stages that need this run"


def test_stages_that_need_a_run_come_after_one(tmp_path: Path) -> None:
    lesson = LESSON.replace('run = { config = "rows.toml", set = { "train.steps" = 4 } }\n', "")
    keys = [problem.key.partition(": ")[2] for problem in problems(write(tmp_path / "rates", lesson))]
    assert keys == [
        "stage.see.until", "stage.see.fact.1", "stage.try.trial.1", "stage.try.trial.2",
        "stage.diagnose.diagnose", "stage.fix.fix",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "code", "key"),
    [
        ("See it.", "", "missing", "## see"),
        ("See it.", "word " * 120, "too_large", "## see"),
        ("See it.", "See [it](https://example.org).", "invalid", "## see"),
        ("## see", "Before.\n## see", "invalid", ""),
        ("## see", "## sea", "unknown_name", "## sea"),
        ("## keep", "## see", "exists", ""),
    ],
)
def test_texts_fit_the_strip_and_belong_to_a_stage(tmp_path: Path, old: str, new: str, code: str, key: str) -> None:
    folder = write(tmp_path / "rates", text=TEXT.replace(old, new, 1))
    first = problems(folder)[0]
    file = str(folder / "text.md")
    assert (first.code, first.key) == (code, f"{file}: {key}" if key else file)


def test_code_to_keep_fits_the_strip(tmp_path: Path) -> None:
    wide = write(tmp_path / "wide", LESSON.replace("optimizer.step()", "x" * 77))
    assert [(problem.code, problem.key.partition(": ")[2]) for problem in problems(wide)][0] == (
        "too_large",
        "stage.keep.keep.code",
    )
    long = write(tmp_path / "long", LESSON.replace("optimizer.step()", "x\\n" * 6))
    assert problems(long)[0].key.endswith("stage.keep.keep")


def test_links_name_terms_of_the_glossary(tmp_path: Path) -> None:
    text = load_lesson(write(tmp_path / "rates")).texts["predict"]
    assert [(link.text, link.term) for link in stage_text.links(text)] == [("ln V", "ln V")]
    assert stage_text.without_links(text) == "Predict ln V."


def test_lessons_of_a_folder_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name in ("10-last", "2-second", "1-first"):
        write(tmp_path / "all" / name)
    assert [lesson.name for lesson in list_lessons(tmp_path / "all")] == ["1-first", "2-second", "10-last"]
    assert [lesson.name for lesson in list_lessons(tmp_path / "all" / "2-second")] == ["2-second"]


def test_folder_without_lessons_is_an_error(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "missing"):
        with pytest.raises(ConfigError) as caught:
            list_lessons(place)
        assert caught.value.code == "not_found"


def test_lesson_is_found_by_path_number_and_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builtin = write(tmp_path / "builtin" / "3-rates")
    own = write(tmp_path / "own")
    monkeypatch.setattr(load, "BUILTIN", tmp_path / "builtin")
    assert [find_lesson(name) for name in ("3-rates", "3", "rates")] == [builtin] * 3
    assert find_lesson(str(own)) == own
    with pytest.raises(ConfigError) as caught:
        find_lesson("3-rate")
    assert caught.value.problems[0].suggestion == "3-rates"


def test_files_of_a_config_are_looked_up_in_the_lessons_folder(tmp_path: Path) -> None:
    lesson = LESSON.replace("rows.toml", "overfit-one").replace(
        '"train.steps" = 4', '"train.steps" = 4, "data.path" = "own.txt"'
    )
    folder = write(tmp_path / "rates", lesson)
    (folder / "own.txt").write_text("My own sentence.", encoding="utf-8")
    config = load_lesson(folder).configs["see"].start
    assert config is not None and config.data.path == str(folder / "own.txt")
