"""The next step after an error that comes from the machine fits the arguments that a script reads."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tui_lab.core.user_code.missing_resource import missing_resource, next_step

ARGPARSE = """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("-d", "--device", default="cuda")
"""
SWITCH = """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--no-cuda", action="store_true")
"""
CLICK = """
import click
@click.command()
@click.option("--device", default="cuda")
def main(device): ...
"""
FUNCTION = """
import fire
def main(steps: int = 3, accelerator_name="cuda:0"): ...
fire.Fire(main)
"""
FIELD = """
import tyro
class Settings:
    where: str = "cuda"
"""
OVERRIDES = """
import sys
place = "cuda"
for word in sys.argv[1:]:
    key, value = word[2:].split("=")
    globals()[key] = value
model.to(place)
"""
EXECUTES = """
place = "cuda"
exec(open("settings.py").read())
model.to(place)
"""


@pytest.mark.parametrize(
    ("source", "flag"),
    [
        (ARGPARSE, "--device cpu"),
        (SWITCH, "--no-cuda"),
        (CLICK, "--device cpu"),
        (FUNCTION, "--accelerator_name=cpu"),
        (FIELD, "--where=cpu"),
        (OVERRIDES, "--place=cpu"),
        (EXECUTES, "--place=cpu"),
    ],
)
def test_device_argument_that_the_script_reads_is_named(source: str, flag: str, tmp_path: Path) -> None:
    (tmp_path / "settings.py").write_text("import sys\nglobals().update(a.split('=') for a in sys.argv[1:])\n", "utf-8")
    script = tmp_path / "train.py"
    script.write_text(source, "utf-8")
    step = next_step("gpu", script, ["train.py"], ["--steps", "3"])
    assert step.endswith(f"tui-lab doctor train.py -- --steps 3 {flag}")


@pytest.mark.parametrize(
    "source",
    ['device = "cuda"\n', 'import sys\nprint(sys.argv)\ndevice = "cuda"\nmodel.to(device)\n', "syntax error", ""],
)
def test_no_argument_is_claimed_that_the_script_does_not_read(source: str, tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(source, "utf-8")
    step = next_step("gpu", script, ["train.py"])
    assert "--" not in step and '"cpu"' in step
    assert ("line 1" in step) == source.startswith("device")


def no_network() -> None:
    try:
        raise socket.gaierror(-2, "Name or service not known")
    except OSError:
        raise RuntimeError("could not load the tokenizer") from None


def no_gpu() -> None:
    raise AssertionError("Torch not compiled with CUDA enabled")


def wrong_value() -> None:
    raise ValueError("CUDA")


@pytest.mark.parametrize(("call", "resource"), [(no_network, "network"), (no_gpu, "gpu"), (wrong_value, None)])
def test_cause_of_an_error_is_recognized(call: Callable[[], None], resource: str | None) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - of any type.
        call()
    assert missing_resource(caught.value) == resource
