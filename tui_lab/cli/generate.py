"""`tui-lab generate`: stream generated text to stdout."""

from collections.abc import Iterable
from dataclasses import asdict
from itertools import chain
from typing import Literal

from tui_lab.cli.output import say, stdout, write_json
from tui_lab.core.inference.generate import generate
from tui_lab.core.inference.load_model import Which, load_chosen
from tui_lab.core.inference.sampling import Generated, Sampling
from tui_lab.core.runs import folder as runs
from tui_lab.runs.answers import new_tokens, verdict
from tui_lab.util.escape import printable

ALTERNATIVES = 5
"""Alternatives to each token in the JSON output."""
TOKENS_OF_TEXT = 200


def generate_text(
    name: str,
    prompt: str,
    max_new_tokens: int | None,
    sampling: Sampling,
    weights: Which,
    precision: Literal["auto", "fp32", "bf16"],
    *,
    json_lines: bool,
) -> None:
    """Stream the prompt and the generated text, or one JSON object per token and a last one with the whole text.

    max_new_tokens: None for the length of the task's answer, or `TOKENS_OF_TEXT`. precision: auto for the run's own.
    Which weights are used, and whether an answer is right, is written to stderr. On a terminal, control characters are
    escaped, since a model may generate sequences that drive a terminal; a pipe gets the text unchanged.
    """
    run = runs.find(name)
    chosen, model, tokenizer = load_chosen(run, weights, precision=None if precision == "auto" else precision)
    config = chosen.config
    tokenizer.encode(prompt)  # A symbol that it does not have is an error before anything is printed.
    say(f"{run.name}: {chosen.description}")
    tokens = generate(
        model,
        tokenizer,
        prompt,
        max_new_tokens=max_new_tokens or new_tokens(config, prompt, TOKENS_OF_TEXT),
        sampling=sampling,
        n_alternatives=ALTERNATIVES if json_lines else 0,
    )
    if json_lines:
        _write_json_lines(prompt, tokens)
    else:
        text = _write_text(prompt, tokens)
        if judgment := verdict(config, prompt, text):
            say(judgment)


def _write_json_lines(prompt: str, tokens: Iterable[Generated]) -> None:
    text = ""
    for token in tokens:
        text += token.text
        write_json({"event": "token", **asdict(token)})
    write_json({"event": "text", "prompt": prompt, "text": text})


def _write_text(prompt: str, tokens: Iterable[Generated]) -> str:
    """Write the prompt and the tokens as they come, and return the text of the tokens."""
    out = stdout()
    is_terminal = out.isatty()
    texts = []
    for text in chain([prompt], (token.text for token in tokens)):
        texts.append(text)
        out.write(printable(text, "\n\t") if is_terminal else text)
        out.flush()
    out.write("\n")
    out.flush()
    return "".join(texts[1:])
