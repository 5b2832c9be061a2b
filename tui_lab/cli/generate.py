"""`tui-lab generate`: stream generated text to stdout."""

from collections.abc import Iterable
from dataclasses import asdict
from itertools import chain

from tui_lab.cli.output import say, stdout, write_json
from tui_lab.core.inference.generate import generate
from tui_lab.core.inference.load_model import Which, load_chosen
from tui_lab.core.inference.sampling import Generated, Sampling
from tui_lab.core.runs import folder as runs
from tui_lab.util.escape import printable

ALTERNATIVES = 5
"""Alternatives to each token in the JSON output."""


def generate_text(
    name: str, prompt: str, max_new_tokens: int, sampling: Sampling, weights: Which, *, json_lines: bool
) -> None:
    """Stream the prompt and the generated text, or one JSON object per token and a last one with the whole text.

    Which weights are used is written to stderr. On a terminal, control characters are escaped, since a model may
    generate sequences that drive a terminal; a pipe gets the text unchanged.
    """
    run = runs.find(name)
    chosen, model, tokenizer = load_chosen(run, weights)
    say(f"{run.name}: {chosen.description}")
    tokens = generate(
        model,
        tokenizer,
        prompt,
        max_new_tokens=max_new_tokens,
        sampling=sampling,
        n_alternatives=ALTERNATIVES if json_lines else 0,
    )
    if json_lines:
        _write_json_lines(prompt, tokens)
    else:
        _write_text(prompt, tokens)


def _write_json_lines(prompt: str, tokens: Iterable[Generated]) -> None:
    text = ""
    for token in tokens:
        text += token.text
        write_json({"event": "token", **asdict(token)})
    write_json({"event": "text", "prompt": prompt, "text": text})


def _write_text(prompt: str, tokens: Iterable[Generated]) -> None:
    out = stdout()
    is_terminal = out.isatty()
    for text in chain([prompt], (token.text for token in tokens)):
        out.write(printable(text, "\n\t") if is_terminal else text)
        out.flush()
    out.write("\n")
    out.flush()
