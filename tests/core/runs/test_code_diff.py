"""The code of two runs is compared by the place of each file, and belongs to what makes two runs the same."""

from hashlib import sha256
from pathlib import Path

from tests.core.recorded import STARTED, recorded_script, script_config, update
from tui_lab.core import events as ev
from tui_lab.core.config.script import ImportedConfig, SourceConfig
from tui_lab.core.runs import run_files
from tui_lab.core.runs.catalog import row_of
from tui_lab.core.runs.code import CodeFile, LeftOut, RecordedCode, write_code
from tui_lab.core.runs.code_diff import code_digest, diff_code
from tui_lab.core.runs.compare_groups import CurvesPart, GroupComparison, compare_groups
from tui_lab.runs.code_text import code_diff_lines, code_diff_text
from tui_lab.runs.verdict_text import parting_lines, verdict_lines

TRAIN = "lr = 0.1\nfor step in range(8):\n    train(step)\n"


def with_code(run: Path, files: dict[str, str], main: str = "train.py", left_out: tuple[LeftOut, ...] = ()) -> Path:
    """Write the code of a run, whose folder exists."""
    contents = {path: text.encode() for path, text in files.items()}
    of_files = [CodeFile(path, sha256(text).hexdigest(), len(text)) for path, text in contents.items()]
    write_code(run, RecordedCode(tuple(of_files), main, None, left_out), contents)
    return run


def folder(path: Path, files: dict[str, str], main: str = "train.py", left_out: tuple[LeftOut, ...] = ()) -> Path:
    path.mkdir()
    return with_code(path, files, main, left_out)


def script(path: Path, files: dict[str, str] | None, losses: list[float], seed: int = 1) -> None:
    """A script's run with these losses. files: its code; None: not recorded."""
    steps = [update(i + 1, loss) for i, loss in enumerate(losses)]
    events = [STARTED, *steps, ev.Stopped(step=len(losses), reason="done")]
    recorded_script(path, config=script_config(seed=seed), events=events)
    if files is not None:
        with_code(path, files)


def compared(root: Path, *names: str) -> list[GroupComparison]:
    return compare_groups([row_of(root / name, name) for name in names])


def part_of(comparison: GroupComparison) -> CurvesPart:
    assert comparison.part is not None
    return comparison.part


def test_lines_that_differ_are_counted_and_shown(tmp_path: Path) -> None:
    a = folder(tmp_path / "a", {"train.py": TRAIN, "model.py": "a\nb\nc\n", "old.py": "1\n"})
    b = folder(
        tmp_path / "b", {"train.py": TRAIN.replace("0.1", "0.2"), "model.py": "a\nc\nd\ne\n", "new.py": "1\n2\n"}
    )
    diff = diff_code(("a", a), ("b", b))
    assert [(file.path, file.change, file.lines) for file in diff.files] == [
        ("train.py", "changed", 1),
        ("model.py", "changed", 3),
        ("old.py", "only_first", 1),
        ("new.py", "only_second", 2),
    ]
    assert "train.py (1 line), model.py (3 lines)" in code_diff_text(diff)
    lines = code_diff_lines(diff)
    assert lines[:2] == ["--- a/train.py", "+++ b/train.py"] and {"-lr = 0.1", "+lr = 0.2"} < set(lines)


def test_a_copy_of_a_project_has_the_same_code(tmp_path: Path) -> None:
    """In a git work tree paths are longer, and the script has another name."""
    a = folder(tmp_path / "a", {"train.py": TRAIN, "lib/x.py": "1\n"})
    b = folder(tmp_path / "b", {"work/train2.py": TRAIN, "work/lib/x.py": "1\n"}, "work/train2.py")
    assert diff_code(("a", a), ("b", b)).files == () and code_digest(a) == code_digest(b) != ""


def test_code_that_was_not_recorded_or_left_out_is_not_said_to_differ(tmp_path: Path) -> None:
    a = folder(tmp_path / "a", {"train.py": TRAIN, "big.py": "1\n"})
    b = folder(tmp_path / "b", {"train.py": TRAIN}, left_out=(LeftOut("big.py", "too large"),))
    (tmp_path / "c").mkdir()
    partial = diff_code(("a", a), ("b", b))
    assert (partial.files, partial.is_complete) == ((), False) and "left out" in code_diff_text(partial)
    diff = diff_code(("a", a), ("c", tmp_path / "c"))
    assert (diff.unrecorded, diff.files) == (("c",), ()) and "not recorded" in code_diff_text(diff)


def test_runs_of_other_code_are_no_seeds_of_one_another(tmp_path: Path) -> None:
    losses = [2.0, 1.5, 1.0]
    script(tmp_path / "a", {"train.py": TRAIN}, losses)
    script(tmp_path / "a2", {"train.py": TRAIN}, losses, seed=2)
    script(tmp_path / "b", {"train.py": TRAIN.replace("0.1", "0.2")}, [2.0, 1.4, 0.9])
    [comparison] = compared(tmp_path, "a", "b")
    assert [row.name for row in comparison.baseline.runs] == ["a", "a2"]
    assert [row.name for row in comparison.group.runs] == ["b"]
    part = part_of(comparison)
    assert part.start.settings == () and part.start.code is not None
    assert [file.path for file in part.start.code.files] == ["train.py"]
    assert "train.py (1 line)" in "\n".join(parting_lines(part))
    assert any("seed (it is 1)" in line for line in verdict_lines(comparison, {}))


def test_a_live_change_is_not_the_cause_where_the_code_differs(tmp_path: Path) -> None:
    change = ev.Changed(step=2, key="optim.lr_factor", old=1.0, new=2.0)
    steps = [update(1, 2.0), update(2, 1.5), change, update(3, 0.5)]
    script(tmp_path / "a", {"train.py": TRAIN}, [2.0, 1.5, 1.0])
    recorded_script(tmp_path / "b", config=script_config(seed=1), events=[STARTED, *steps])
    with_code(tmp_path / "b", {"train.py": f"{TRAIN}\n"})
    [comparison] = compared(tmp_path, "a", "b")
    lines = parting_lines(part_of(comparison))
    places = [next(i for i, line in enumerate(lines) if text in line) for text in ("train.py", "need not", "lr_factor")]
    assert places == sorted(places)


def imported(path: Path, steps: dict[int, float]) -> None:
    config = ImportedConfig(source=SourceConfig(path="my.csv", format="csv"))
    recorded_script(path, config=config, events=[STARTED, *(update(step, loss) for step, loss in steps.items())])


def test_the_settings_of_an_import_are_not_known_and_only_common_steps_count(tmp_path: Path) -> None:
    losses = [2.0 - step / 40 for step in range(40)]
    script(tmp_path / "own", None, losses)
    imported(tmp_path / "other", {10: losses[9], 20: losses[19], 30: 0.1})
    [comparison] = compared(tmp_path, "other", "own")
    part = part_of(comparison)
    assert (part.start.unknown, part.start.settings, part.start.code) == (("other",), (), None)
    assert (part.parting.last_identical, part.parting.first_difference) == (20, 30)
    lines = parting_lines(part)
    assert "step 20" in lines[0] and "step 29" not in lines[0] and "not known" in lines[1]


def test_the_first_common_step_may_differ_already(tmp_path: Path) -> None:
    script(tmp_path / "own", None, [2.0, 1.5, 1.0, 0.9])
    imported(tmp_path / "other", {2: 3.0, 4: 2.0})
    [comparison] = compared(tmp_path, "other", "own")
    part = part_of(comparison)
    assert (part.parting.last_identical, part.parting.first_difference) == (None, 2)
    assert "first that both have" in parting_lines(part)[0]
    assert run_files.CODE_INFO not in {path.name for path in (tmp_path / "own").iterdir()}
