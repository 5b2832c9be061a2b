"""The source of a script shows which variables only count or hold results in its loops, and are not settings."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from tui_lab.core.watch.code.loop_variables import executed_loop_variables, loop_variables
from tui_lab.core.watch.variables.script_config import without_loop_variables

SCRIPT = """
lr = 0.1
total = 0
for word in words:
    first, *others = word
    total += 1
for rate in (0.1, 0.2):
    hidden = 16
    while True:
        step = 1
        lr = rate
        for micro in range(2):
            losses = micro
        look()
        break
    break
width = 4
"""
FUNCTION = """
def train(epochs, rate):
    n = 0
    for epoch in range(epochs):
        n += 1
        rate = rate / 2
        if (count := n) > 0:
            look()

train(1, 0.1)
"""
CONFIGURATOR = """
for argument in arguments:
    key, value = argument.split("=")
    globals()[key] = value
"""


def run(source: str, file: Path, variables: dict[str, object]) -> frozenset[str]:
    """Execute a script, and return the loop variables of what calls `look`."""
    file.write_text(source)
    seen: list[frozenset[str]] = []
    variables |= {"look": lambda: seen.append(loop_variables(sys._getframe(1)))}
    exec(compile(source, str(file), "exec"), variables)  # noqa: S102 - the text above.
    [names] = seen
    return names


def test_of_a_script(tmp_path: Path) -> None:
    """What the loop over rates assigns may be a setting; `lr` and `total` are assigned outside, too."""
    names = run(SCRIPT, tmp_path / "train.py", {"words": ["abc"]})
    assert names == {"word", "first", "others", "step", "micro", "losses"}


def test_of_a_function(tmp_path: Path) -> None:
    assert run(FUNCTION, tmp_path / "train.py", {}) == {"epoch", "n", "count"}


COUNTING = """
total = 0
for fold in range(1):
    for seed, width in enumerate((8,)):
        for depth in range(2, 3):
            for epoch_i, _ in enumerate(shown(range(1))):
                for step in tqdm(range(1)):
                    total += 1
                    look()
"""


def test_loops_around_that_only_count(tmp_path: Path) -> None:
    """A seed, a width and a depth may be settings."""
    names = run(COUNTING, tmp_path / "train.py", {"tqdm": iter, "shown": iter})
    assert names == {"fold", "epoch_i", "step", "total"}


def test_source_that_is_not_there(tmp_path: Path) -> None:
    assert executed_loop_variables(str(tmp_path / "gone.py")) == frozenset()


def test_settings_are_those_that_an_executed_file_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As nanoGPT's train.py, which executes a file that reads the command line."""
    (tmp_path / "configurator.py").write_text(CONFIGURATOR)
    source = "exec(Path('configurator.py').read_text())\nfor step in range(1):\n    loss = 2.5\n    look()\n"
    (tmp_path / "train.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    main = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    seen: list[dict[str, object]] = []
    vars(main).update(
        Path=Path, arguments=["size=8"], look=lambda: seen.append(dict(without_loop_variables(sys._getframe(1))[0]))
    )
    exec(compile(source, str(tmp_path / "train.py"), "exec"), vars(main))  # noqa: S102
    [settings] = seen
    assert settings["size"] == "8"
    assert not {"argument", "key", "value", "step", "loss"} & settings.keys()
