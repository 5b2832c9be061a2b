"""An option that only the script has: the hint names the script as it was named, and only where there is one."""

import pytest

from tests.command_line import RunCli
from tui_lab.cli.usage_hints import named_script
from tui_lab.core.watch.process.script_process import Target
from tui_lab.util.exit_codes import BAD_USAGE


@pytest.mark.parametrize("command", ["doctor", "lr-find"])
@pytest.mark.parametrize(
    ("words", "target"),
    [
        (("train.py", "--learning-rate", "1"), Target("train.py")),
        (("--learning-rate=1", "my train.pyw"), Target("my train.pyw")),
        (("-m", "package.train", "--learning-rate", "1"), Target("package.train", is_module=True)),
        (("reverse", "--learning-rate", "1"), None),
        (("train.py:Model", "--learning-rate", "1"), None),
    ],
)
def test_unknown_option_of_a_script(
    command: str, words: tuple[str, ...], target: Target | None, run_cli: RunCli
) -> None:
    result = run_cli(command, *words)
    assert result.code == BAD_USAGE
    assert (" -- ARGUMENTS" in result.err) is (target is not None)
    assert target is None or target.arguments_hint(command) in result.err


def test_value_that_is_missing_is_no_argument_of_a_script(run_cli: RunCli) -> None:
    result = run_cli("lr-find", "train.py", "--rates")
    assert result.code == BAD_USAGE and " -- ARGUMENTS" not in result.err


def test_words_after_the_end_of_options_name_no_script() -> None:
    assert named_script(["reverse", "--", "train.py"]) is None
    assert named_script(["-mpackage.train"]) == Target("package.train", is_module=True)
