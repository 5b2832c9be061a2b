"""`tui-lab generate`: stream a model's words."""

import sys
from dataclasses import asdict

from tui_lab.cli.output import stdout
from tui_lab.core.inference.generate import generate
from tui_lab.core.inference.load_model import Which, load_chosen
from tui_lab.core.inference.sampling import Generated, Sampling
from tui_lab.core.runs import folder as runs
from tui_lab.util.escape import printable
from tui_lab.util.strict_json import dumps

ALTERNATIVES = 5


def speak(name: str, prompt: str, max_new_tokens: int, sampling: Sampling, weights: Which, *, json_lines: bool) -> None:
    """Print the prompt and what follows as it comes, or a JSON object a token and a last one with the whole text. Which
    weights speak is said on stderr.

    A model may say what drives a terminal, so there control characters are escaped; a pipe gets them as they are.
    """
    run = runs.find(name)
    chosen, model, tokenizer = load_chosen(run, weights)
    sys.stderr.write(printable(f"{run.name}: {chosen.words}") + "\n")
    said = [] if json_lines else [prompt]
    shown = (lambda text: printable(text, "\n\t")) if stdout().isatty() else str
    if not json_lines:
        _write(shown(prompt))
    told = generate(model, tokenizer, prompt, max_new_tokens=max_new_tokens, sampling=sampling,
                    n_alternatives=ALTERNATIVES if json_lines else 0)  # fmt: skip
    for made in told:
        said.append(made.text)
        _write(_line(made) if json_lines else shown(made.text))
    _write(dumps({"event": "text", "prompt": prompt, "text": "".join(said)}) + "\n" if json_lines else "\n")


def _line(made: Generated) -> str:
    return dumps({"event": "token", **asdict(made)}) + "\n"


def _write(text: str) -> None:
    stdout().write(text)
    stdout().flush()
