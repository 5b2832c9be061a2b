"""Every command in README.md and docs/guide works as shown, page by page, in the order of the page."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cli.documents import GUIDE, README, ROOT, Shown, check_usage, code_blocks, lab_commands, shell_lines
from tests.command_line import RunCli
from tui_lab.core.config.settings import presets

PAGES = [README, *GUIDE]
SAMPLES = ROOT / "tests" / "core" / "runs" / "importing" / "samples"
PYTHON_PAGES = [page for page in PAGES if page.name != "plugins.md"]
"""Their Python is one program; that of plugins.md is a package, and tests/test_plugin_guide.py tries it."""

MODEL = """
import types

import torch
from torch import nn
from torch.nn import functional as F

class MyGPT(nn.Module):
    def __init__(self, n_vocab=300, context=64):
        super().__init__()
        torch.manual_seed(0)
        self.tokens, self.head = nn.Embedding(n_vocab, 16), nn.Linear(16, n_vocab)
        nn.init.normal_(self.tokens.weight, 0.0, 0.1)

    def forward(self, x):
        return self.head(torch.tanh(self.tokens(x).cumsum(1)))

def my_loss(logits, y):
    return F.cross_entropy(logits.flatten(0, 1), y.flatten())

def my_step(model, optimizers, x, y):
    optimizers[0].zero_grad()
    my_loss(model(x), y).backward()
    optimizers[0].step()

class Seq2Seq(nn.Module):
    def __init__(self):
        super().__init__()
        self.source, self.target, self.head = nn.Embedding(30, 16), nn.Embedding(30, 16), nn.Linear(16, 30)

    def forward(self, source, target):
        return self.head(torch.tanh(self.target(target).cumsum(1) + self.source(source).mean(1, keepdim=True)))

ids = torch.randint(0, 30, (4, 7), generator=torch.Generator().manual_seed(0))
pairs = [{"source": ids, "target": ids.flip(1)}]
tokens = torch.randint(0, 300, (3, 9), generator=torch.Generator().manual_seed(0))
x, y = tokens[:, :-1], tokens[:, 1:]
loader = [(x, y), (y, x)]
tokenizer = types.SimpleNamespace(n_vocab=300)
next_batch = lambda step: (x[:1], y[:1])
"""
"""What the reader's own file stands for: a small model, data, a loss and a training step."""
SCRIPT = """
import argparse
import torch
from mine import loop
from tui_lab.core.training import optim_without_dynamo

torch.optim.SGD = optim_without_dynamo.SGD  # Its import takes half as long.

learning_rate = 0.1
parser = argparse.ArgumentParser()
parser.add_argument("--batch_size", type=int)
assert parser.parse_args().batch_size == 12
case = loop()
for step in range(100):
    case.update(case.model, [case.optimizer], *case.batches(step))
"""
"""The reader's training script."""


def own_file() -> str:
    """The Python shown in README and the guide, over a real model in place of `class MyGPT(…): ...`."""
    blocks = [block for page in PYTHON_PAGES for block in code_blocks(page, "python")]
    assert blocks
    return MODEL + re.sub(r"class MyGPT\(torch.nn.Module\): \.\.\.\n", "", "\n".join(blocks))


def is_only_parsed(arguments: list[str]) -> bool:
    """Whether a command waits for a person, takes minutes, needs a network, or runs in a process of its own.

    Only its usage is checked here.
    """
    return (
        not arguments
        or arguments[0] in ("app", "learn", "serve", "bench", "watch")
        or arguments[:2] in (["data", "fetch"], ["sweep", "dropout-sweep"])
        or arguments[:2] in (["memory", "train.py"], ["speed", "train.py"])
        or (arguments[:2] == ["sweep", "train.py"] and "--steps" not in arguments)
        or "--self-test" in arguments
        or "--detach" in arguments
        or "--measure" in arguments
    )


def starts_the_script(arguments: list[str]) -> bool:
    """Whether a command runs the reader's script in processes of its own: seconds, of which most import torch."""
    return arguments[:2] in (["lr-find", "train.py"], ["randomness", "train.py"])


def write_logs_of_others(folder: Path) -> None:
    """Write what other programs have logged, for `runs import`."""
    shutil.copy(SAMPLES / "keras" / "training.csv", folder / "old.csv")
    shutil.copytree(SAMPLES / "tensorboard", folder / "logs")
    (folder / "output").mkdir()
    shutil.copy(SAMPLES / "huggingface" / "trainer_state.json", folder / "output")


def shortened(arguments: list[str]) -> list[str]:
    """The same command with smaller numbers: few steps, seeds and tokens, small batches and vocabularies, one trial."""
    resumed = "--resume" in arguments
    smaller = {
        "--steps": "3" if resumed else "2",
        "--step": "2",
        "--random": "1",
        "--seeds": "1",
        "--jobs": "1",
        "--max-new-tokens": "5",
    }
    previous = ["", *arguments[:-1]]
    short = [smaller.get(option, word) for option, word in zip(previous, arguments, strict=True)]
    if arguments[0] == "sweep":  # One value of each list.
        short = [word.partition(",")[0] for word in short]
        short = ["train.target_loss=99" if word.startswith("train.target_loss=") else word for word in short]
    if arguments[0] in ("run", "sweep") and arguments[1] != "train.py" and not resumed:
        short += [] if "--steps" in arguments else ["--steps", "2"]
        short += ["--set", "train.eval_examples=1"]
        if not any(word.startswith("train.batch_size=") for word in arguments):
            short += ["--set", "train.batch_size=4"]
    if arguments[0] == "lr-find":
        of_preset = [] if arguments[1].endswith(".py") else ["--set", "train.batch_size=4"]
        short[1:1] = ["--rates", "10", *of_preset]
    if arguments[:2] == ["doctor", "confusion-3"]:
        short += ["--set", "data.vocab=seen"]
    if arguments[0] in ("run", "lr-find", "doctor") and arguments[1] in presets():
        short += ["--set", "model.n_layers=1", "--set", "model.d_model=16", "--set", "model.d_ff=16"]
    if arguments[:2] in (["doctor", "train.py"], ["doctor", "-m"]):
        short[1:1] = ["--updates", "5"]
    if (arguments[0] == "generate" or "--prompt" in arguments) and "--max-new-tokens" not in arguments:
        short += ["--max-new-tokens", "5"]
    return short


def expected_codes(arguments: list[str]) -> set[int]:
    """confusion-3 has planted faults; a shortened run need not meet its requirements, nor find a learning rate."""
    if arguments[:2] == ["doctor", "confusion-3"]:
        return {1}
    return {0, 1} if "--require" in arguments or arguments[0] == "lr-find" else {0}


def check_reader(reader: list[str], stdout: str) -> None:
    """Pipe the output to `jq`; without jq, check that every line is JSON."""
    if shutil.which(reader[0]):
        assert subprocess.run(reader, input=stdout, capture_output=True, text=True, check=True).stdout
    else:
        assert [json.loads(line) for line in stdout.splitlines()]


def without_earlier_pages(page: Path) -> list[Shown]:
    """The page's commands, except those that an earlier page shows too and that no later command needs."""
    earlier = {shown.line for other in PAGES[: PAGES.index(page)] for shown in lab_commands(other)}
    return [shown for shown in lab_commands(page) if shown.line not in earlier or "--out" in shown.arguments]


SLOW_PAGES = ("doctor", "own-model", "sweep")


@pytest.fixture
def folder_of_the_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with the reader's own files."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-text.txt").write_text(README.read_text("utf-8") * 4, "utf-8")
    (tmp_path / "mine.py").write_text(own_file(), "utf-8")
    (tmp_path / "train.py").write_text(SCRIPT, "utf-8")
    write_logs_of_others(tmp_path)
    (tmp_path / "mypackage").mkdir()
    (tmp_path / "mypackage" / "train.py").write_text(SCRIPT, "utf-8")
    return tmp_path


@pytest.mark.usefixtures("doctor_in_process")
@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=pytest.mark.slow if page.stem in SLOW_PAGES else ()) for page in PAGES],
    ids=lambda page: page.stem,
)
def test_commands_of_a_page_work_in_order(page: Path, run_cli: RunCli, folder_of_the_reader: Path) -> None:
    """In this process: a program for each command would load torch fifty times."""
    for shown in without_earlier_pages(page):
        if is_only_parsed(shown.arguments) or starts_the_script(shown.arguments):
            continue
        done = run_cli(*shortened(shown.arguments))
        assert done.code in expected_codes(shown.arguments), (shown.line, done.err)
        if shown.reader:
            check_reader(shown.reader, done.out)
        if shown.target:
            (folder_of_the_reader / shown.target).write_text(done.out, "utf-8")


@pytest.mark.slow
@pytest.mark.usefixtures("folder_of_the_reader")
def test_commands_that_start_the_script_work(run_cli: RunCli) -> None:
    """As others do in fast tests: `doctor train.py` of README, and those in tests/core/watch."""
    commands = {
        shown.line: shown for page in PAGES for shown in lab_commands(page) if starts_the_script(shown.arguments)
    }
    assert {shown.arguments[0] for shown in commands.values()} == {"lr-find", "randomness"}
    for shown in commands.values():
        done = run_cli(*shortened(shown.arguments))
        assert done.code in expected_codes(shown.arguments), (shown.line, done.err)


def test_options_of_every_command_exist() -> None:
    """As shown, those included that are not run here."""
    for page in PAGES:
        for shown in lab_commands(page):
            check_usage(shown.arguments)


def test_output_of_config_show_is_a_valid_config(run_cli: RunCli, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(run_cli("config", "show", "socrates").out, "utf-8")
    assert run_cli("config", "validate", "mine.toml").code == 0


def test_every_make_target_shown_exists() -> None:
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    lines = [line for page in pages for line in re.findall(r"^    (make .*?)(?:  |$)", page.read_text("utf-8"), re.M)]
    lines += [line for page in PAGES for line in shell_lines(page) if line.startswith("make ")]
    assert {"make run", "make test", "make check"} <= set(lines)
    for line in sorted(set(lines)):
        done = subprocess.run([*shlex.split(line), "-n"], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (line, done.stderr)


def test_torchrun_accepts_the_options_shown() -> None:
    from torch.distributed.run import parse_args

    lines = [line for page in PAGES for line in shell_lines(page) if line.startswith("torchrun ")]
    assert lines
    for line in lines:
        options = parse_args(shlex.split(line)[1:])  # type: ignore[no-untyped-call]
        assert options.training_script in ("tui_lab", "tui-lab")


def test_only_the_public_api_is_imported() -> None:
    blocks = [block for page in PYTHON_PAGES for block in code_blocks(page, "python")]
    imports = {line for block in blocks for line in block.splitlines() if re.match(r"(from|import) tui_lab", line)}
    assert imports <= {"from tui_lab import Case, examine", "from tui_lab import Case"}


def test_the_python_shown_works() -> None:
    from tui_lab import Case

    names: dict[str, Any] = {}
    exec(own_file(), names)
    for name in ("training", "loop", "translator"):
        assert isinstance(names[name](), Case)
    names["test_my_training_has_no_known_mistake"]()
