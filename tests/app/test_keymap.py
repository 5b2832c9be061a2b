"""The user's keymap: what a file may say, and that keys, footer, help and palette follow it."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Input

from tests.app.fake import help_text, lab
from tests.command_line import RunCli
from tui_lab.app.actions import BY_ID
from tui_lab.app.key_names import key_label, normalized
from tui_lab.app.keymap import Keymap, bindables, default_toml, keymap_path, parse, read
from tui_lab.core import commands as cmd
from tui_lab.util.errors import ConfigError


def test_default_keymap_as_toml_changes_nothing() -> None:
    chosen = parse(tomllib.loads(default_toml()))
    every = bindables()
    assert chosen == {id: each.keys for id, each in every.items() if each.keys}
    assert {each.place for each in every.values()} >= {"lab", "config", "loss", "batch", "home", "runs"}


def test_each_id_has_one_meaning() -> None:
    assert all(each.name and each.about for each in bindables().values())


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("p", "p"), ("P", "P"), ("?", "question_mark"), ("question_mark", "question_mark"), (" ", "space"),
        ("f5", "f5"), ("ctrl+x", "ctrl+x"), ("shift+a", "A"), ("+", "plus"), (",", "comma"),
        ("nosuch", None), ("hyper+a", None), ("", None),
    ],
)  # fmt: skip
def test_key_names(key: str, name: str | None) -> None:
    assert normalized(key) == name


def test_names_of_keys_have_a_capital_where_they_are_shown() -> None:
    keys = ("L", "l", "question_mark", "escape", "space", "enter", "f1", "ctrl+s")
    assert [*map(key_label, keys)] == ["L", "l", "?", "Esc", "Space", "Enter", "F1", "Ctrl+S"]


@pytest.mark.parametrize(
    ("text", "code", "key", "suggestion"),
    [
        ('[lab]\npuse = "p"', "unknown_key", "lab.puse", "pause"),
        ('[lib]\npause = "p"', "unknown_key", "[lib]", "lab"),
        ('[batch]\nnext = "p"', "unknown_key", "batch.next", "next_step"),
        ('[lab]\npause = "spce"', "unknown_name", "lab.pause", "space"),
        ("[lab]\npause = 3", "wrong_type", "lab.pause", ""),
        ("[lab]\npause = []", "wrong_type", "lab.pause", ""),
        ('[lab]\npause = "s"', "conflict", "lab.pause", ""),
        ('[lab]\npause = ["p", "i"]\nundo = "i"', "conflict", "lab.undo", ""),
        ('[batch]\nsort_by_loss = "n"', "conflict", "batch.sort_by_loss", ""),
        ('[lab]\npause = "ctrl+p"', "conflict", "lab.pause", ""),
    ],
)
def test_wrong_keymap_is_refused_with_the_nearest_name(text: str, code: str, key: str, suggestion: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(tomllib.loads(text))
    [problem] = error.value.problems
    assert (problem.code, problem.key, problem.suggestion) == (code, key, suggestion)


def test_keys_may_be_swapped_and_shared_by_commands_that_never_apply_together() -> None:
    assert parse({"lab": {"pause": "s", "step": "space"}}) == {"lab.pause": ("s",), "lab.step": ("space",)}
    assert parse({"lab": {"evaluate": "<"}})  # < belongs to replays, and a replay does not evaluate.


def test_missing_file_is_the_default_keymap(tmp_path: Path) -> None:
    assert read(tmp_path / "none.toml") == Keymap()
    (tmp_path / "keymap.toml").write_text("[lab", "utf-8")
    with pytest.raises(ConfigError):
        read(tmp_path / "keymap.toml")


def test_app_exits_with_2_for_a_wrong_keymap(run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    keymap_path().parent.mkdir(parents=True)
    keymap_path().write_text('[lab]\npuse = "p"\n', "utf-8")
    monkeypatch.setenv("TEXTUAL_DRIVER", "none")  # It does not get as far as a terminal.
    result = run_cli("app")
    assert result.code == 2 and "pause" in result.err


async def test_keys_footer_help_and_palette_follow_the_keymap(monkeypatch: Any) -> None:
    chosen = parse({"lab": {"pause": ["p", "f5"], "checkpoint": "C", "shuffle": "M"}, "config": {"search": "S"}})
    async with lab(keymap=Keymap(chosen)) as it:
        await it.press("space", "p", "f5", "c", "C", "M")
        sent = [cmd.Pause(), cmd.Resume(), cmd.Save()]
        assert it.source.sent[:-1] == sent and isinstance(it.source.sent[-1], cmd.Cycle)
        assert "p Pause" in it.painted().splitlines()[-1]
        titles = [command.title for command in it.pilot.app.get_system_commands(it.screen)]
        assert "Pause/resume (p)" in titles and "Save checkpoint (C)" in titles
        await it.press("1", "S", "p")
        field = it.screen.query_one("#search", Input)
        assert field.has_focus and field.value == "p" and it.source.sent[:-1] == sent
        await it.press("escape", "question_mark")
        shown = help_text(it.pilot.app.screen)
        assert f"\np  {BY_ID['pause'].title}" in shown and "\nS  config: Search\n" in shown


def test_textual_gets_every_binding_that_had_or_has_a_chosen_key() -> None:
    chosen = parse({"lab": {"checkpoint": "C"}})
    assert Keymap(chosen).for_textual() == {"lab.checkpoint": "C", "lab.resume": "c"}
