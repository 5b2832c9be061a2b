"""Which values of a script can be replaced: literals that it assigns once at its top level."""

from pathlib import Path
from typing import Any

import pytest

from tui_lab.core.user_code.assigned_values import assigned_values


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("lr = 3e-4\nname: str = 'adam'\n", {"lr": 3e-4, "name": "adam"}),
        ("a, b = 1, (2, 3)\n", {"a": 1, "b": (2, 3)}),
        ("c = {'lr': 1, 'betas': [0.9, 0.95], 3: 4}\n", {"c.lr": 1, "c.betas": [0.9, 0.95]}),
        ("class C:\n    lr: float = 0.1\n    n = -2\n    def f(self): pass\n", {"C.lr": 0.1, "C.n": -2}),
        ("width = 4\ninner = 4 * width\nhalf = width / 2\n", {"width": 4}),
        ("lr = 1\nlr = 2\nn = 3\nn += 1\n", {}),
        ("lr = 1\nif lr: lr = 2\nfor n in (1,): pass\nn = 3\n", {}),
        ("c = dict(lr=1, n=int(2))\n", {"c.lr": 1}),
        ("def main():\n    lr = 1\n", {}),
        ("lr =", {}),
        ("lr = 1\0", {}),
    ],
)
def test_literals_that_are_assigned_once(source: str, expected: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "train.py"
    path.write_text(source, "utf-8")
    assert {key: assigned.value for key, assigned in assigned_values(path).items()} == expected
