"""Every command that README.md shows works as it stands there, in the order in which it stands."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.inside import Told
from tests.process import Cli

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
FEWER = ["--steps", "2", "--set", "train.eval_examples=1", "--set", "train.batch_size=1"]
"""What stands in for the minutes that a reader would wait: two updates, each from one example."""


MODEL = """
import torch
from torch import nn

class MyGPT(nn.Module):
    def __init__(self, n_vocab=50257, context=64):
        super().__init__()
        torch.manual_seed(0)
        self.tokens, self.head = nn.Embedding(n_vocab, 16), nn.Linear(16, n_vocab)
        nn.init.normal_(self.tokens.weight, 0.0, 0.1)
    def forward(self, x):
        return self.head(torch.tanh(self.tokens(x).cumsum(1)))
"""
"""What stands in for the reader's own model."""


WAITING = (
    "tui-lab app reverse",
    "tui-lab serve",
    "tui-lab bench ui --json",
    "tui-lab bench train",
    "tui-lab doctor --self-test --json",
    "tui-lab sweep dropout-sweep",
)
"""What does not end by itself or takes minutes: only that it is there is tested here."""


def commands() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    lines = [line.partition("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


def shortened(words: list[str]) -> list[str]:
    """A `run` or `sweep` of few steps that need not meet a requirement; any other command as it is."""
    if words[0] == "sweep" and "--resume" not in words:
        few = {"--random": "2", "--seeds": "1"}
        return [few.get(before, word) for before, word in zip(["", *words], words, strict=False)] + FEWER
    if words[0] != "run":
        return words
    while "--require" in words:
        at = words.index("--require")
        words = words[:at] + words[at + 2 :]
    if "--resume" in words:
        return words[: words.index("--steps")] + ["--steps", "3"]
    return [word for word in words if not word.isdigit() and word != "--steps"] + FEWER


def piped(words: list[str]) -> tuple[list[str], list[str]]:
    """A command, and the one that reads it, if any."""
    at = words.index("|") if "|" in words else len(words)
    return words[:at], words[at + 1 :]


def read_by(reader: list[str], stdout: str) -> str:
    """What `jq` makes of the output; where it is not installed, that each line is strict JSON."""
    if shutil.which(reader[0]):
        return subprocess.run(reader, input=stdout, capture_output=True, text=True, check=True).stdout
    return "".join(str(json.loads(line)) for line in stdout.splitlines())


def test_every_tui_lab_command_shown_works(told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process: forty programs that each load torch would take a minute more."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-text.txt").write_text(README * 4, "utf-8")
    (tmp_path / "mine.py").write_text(MODEL, "utf-8")
    shown = [line for line in commands() if line.startswith("tui-lab ") and line not in WAITING]
    assert len(shown) > 12
    for line in shown:
        line, _, target = line.partition(">") if " > " in line else (line, "", "")
        words = shlex.split(line)[1:]
        if words[0] == "generate" or words[:2] == ["runs", "compare"]:
            words += ["--max-new-tokens", "5"]
        words, reader = piped(words)
        done = told(*shortened(words))
        if reader:
            assert read_by(reader, done.out), line
        if target:
            (tmp_path / target.strip()).write_text(done.out, "utf-8")
        if words[:2] == ["data", "fetch"] and "are you online?" in done.err:
            continue
        found_something = words[:2] == ["doctor", "confusion-3"]
        assert done.code == int(found_something), (line, done.err)


def test_commands_that_wait_for_a_person_are_there(cli: Cli) -> None:
    for line in WAITING:
        assert line in commands()
        words = [word for word in shlex.split(line)[1:] if word not in ("reverse", "--json", "--self-test")]
        assert cli(*words, "--help").returncode == 0


def test_what_config_show_writes_is_a_config(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(cli("config", "show", "socrates").stdout, "utf-8")
    assert cli("config", "validate", "mine.toml").returncode == 0


def test_every_make_target_shown_exists() -> None:
    contributing = re.findall(r"^    (make .*?)(?:  |$)", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.MULTILINE)
    shown = [line for line in commands() if line.startswith("make ")] + contributing
    assert {"make run", "make test"} <= set(shown)
    for line in shown:
        done = subprocess.run([*shlex.split(line), "-n"], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (line, done.stderr)


def test_every_file_that_readme_links_to_is_there() -> None:
    links = re.findall(r"\]\(([^):]+)\)", README)
    assert links and all((ROOT / link).exists() for link in links)


def test_the_cases_shown_are_cases() -> None:
    """The Python of the doctor's part, with stand-ins for what is the reader's own."""
    import torch
    from torch.nn import functional as F

    from tui_lab import Case, examine

    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    tokens = torch.randint(0, 50257, (3, 9), generator=torch.Generator().manual_seed(0))
    x, y = tokens[:, :-1], tokens[:, 1:]

    def my_loss(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(logits.flatten(0, 1), y.flatten())

    def my_step(
        model: torch.nn.Module, optimizers: list[torch.optim.Optimizer], x: torch.Tensor, y: torch.Tensor
    ) -> None:
        optimizers[0].zero_grad()
        my_loss(model(x), y).backward()  # type: ignore[no-untyped-call]
        optimizers[0].step()

    here: dict[str, object] = {
        "torch": torch, "Case": Case, "examine": examine, "x": x, "y": y, "loader": [(x, y), (y, x)],
        "my_loss": my_loss, "my_step": my_step, "next_batch": lambda step: (x[:1], y[:1]),
    }  # fmt: skip
    exec(MODEL, here)
    for block in blocks:
        exec(re.sub(r"class MyGPT.*\n", "", block), here)
    made = [here[name]() for name in ("training", "loop")]  # type: ignore[operator]
    assert [type(case) for case in made] == [Case, Case]
    assert not any(examine(case).crashed for case in made)
    here["test_my_training_has_no_known_mistake"]()  # type: ignore[operator]
