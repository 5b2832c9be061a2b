"""Commands that need an optional dependency: the error names the extra, before anything is done."""

import sys

import pytest

from tests.command_line import CliError
from tests.core.runs.importing.reading import SAMPLES
from tests.process import TINY


@pytest.mark.parametrize(
    ("arguments", "module", "extra"),
    [
        (["sweep", "reverse", "--over", "optim.lr=0.1,0.2"], "optuna", "sweep"),
        (["serve"], "textual_serve", "serve"),
        (["sweep", "reverse", *TINY, "--over", "optim.lr=0.1,0.2", "--engine", "ray"], "ray", "ray"),
    ],
)
def test_the_error_names_the_extra(
    arguments: list[str], module: str, extra: str, cli_error: CliError, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    error = cli_error(*arguments)
    assert error.code == "unavailable" and f'needs {module}: pip install "tui-lab[{extra}]"' in str(error)


def test_the_error_names_the_package_of_a_missing_module(cli_error: CliError, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard.backend.event_processing.event_file_loader", None)
    error = cli_error("runs", "import", SAMPLES, "--format", "tensorboard")
    assert error.code == "unavailable" and 'needs tensorboard: pip install "tui-lab[tensorboard]"' in str(error)
