"""The only line of a kind in the user's files is found; several say nothing."""

from pathlib import Path

import pytest

from tui_lab.core.user_code.source_lines import (
    Match,
    is_freezing,
    is_half_precision,
    is_key,
    is_keyword,
    is_text,
    is_true_keyword,
    only_line,
)


@pytest.mark.parametrize(
    ("code", "match", "line"),
    [
        ("x = 1\nf(a=2,\n  lr=3)\n", is_keyword("lr"), 3),
        ("f(lr=3)\nf(lr=4)\n", is_keyword("lr"), None),
        ("f(on=False)\ng(on=True)\n", is_true_keyword("on"), 2),
        ("d = {\n'label': 1}\n", is_text("label"), 2),
        ("p.requires_grad = True\np.requires_grad = False\n", is_freezing, 2),
        ("p.requires_grad = 'lora' in name\n", is_freezing, 1),
        ("p.requires_grad_()\nmodel.requires_grad_(requires_grad=False)\n", is_freezing, 2),
        ("def f(:\n", is_freezing, None),
        ("names = ['labels']\nreturn_value = {\"x\": 1, 'labels': 2}\n", is_key("labels"), 2),
        ("d = {}\nd['labels'] = 1\n", is_key("labels"), 2),
        ("d = dict(x=1)\nd = dict(labels=1)\n", is_key("labels"), 2),
        ("import torch\nmodel.to(torch.bfloat16)\n", is_half_precision, 2),
    ],
)
def test_only_line_that_matches(code: str, match: Match, line: int | None, tmp_path: Path) -> None:
    file = tmp_path / "train.py"
    file.write_text(code, "utf-8")
    assert only_line([str(tmp_path / "none.py"), str(file)], match) == (None if line is None else (str(file), line))
