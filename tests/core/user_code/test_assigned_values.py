"""Which values of a file can be replaced: constants that it assigns once at its top level."""

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
        ("c = {'o': {'lr': 1}, 'm': dict(n=2)}\nc['e'] = {'k': 3}\n", {"c.o.lr": 1, "c.m.n": 2, "c.e.k": 3}),
        ("c.o.lr = 1\nc['m'].n = 2\nc[i].k = 3\n", {"c.o.lr": 1, "c.m.n": 2}),
        ("c = SimpleNamespace(o=SimpleNamespace(lr=1))\nc.n = 2\n", {"c.o.lr": 1, "c.n": 2}),
        ("c = {'lr': 1}\nc['lr'] = 2\n", {}),
        ("c = {'lr': 1, 'n': 2}\nc = load()\n", {}),
        ("c = Config()\nc.o = Config()\nc.o.lr = 1\n", {"c.o.lr": 1}),
        ("class C:\n    class O:\n        lr = 1\n", {"C.O.lr": 1}),
        ("n = 5 * 8\nlr = 10**-4\nbig = 9**9**9\ntext = 'a' * 3\n", {"n": 40, "lr": 1e-4}),
        ("if __name__ == '__main__':\n    lr = 1\n", {"lr": 1}),
        ("model = Net(width=1)\n", {}),
        ("def main():\n    lr = 1\n    c = Config(n=2)\n    if c: n = 3\n", {"main.lr": 1, "main.c.n": 2}),
        ("def main():\n    def inner(): lr = 1\n    a = b = 2\n    lr = 1\n    lr *= 2\n", {}),
        ("def get():\n    return {'lr': 1, 'm': {'n': 2}}\n", {"get.lr": 1, "get.m.n": 2}),
        ("class T:\n    def get(self):\n        self.lr = 1\n        return 2\n", {"T.get.self.lr": 1}),
        ("lr =", {}),
        ("lr = 1\0", {}),
    ],
)
def test_constants_that_are_assigned_once(source: str, expected: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "train.py"
    path.write_text(source, "utf-8")
    assert {key: assigned.value for key, assigned in assigned_values(path).values.items()} == expected


def test_module_has_the_arguments_of_calls_but_not_what_only_a_script_runs(tmp_path: Path) -> None:
    path = tmp_path / "config.py"
    path.write_text("c = Config(o=O(lr=1))\na = b = 2\nif __name__ == '__main__':\n    n = 3\n", "utf-8")
    assert list(assigned_values(path, is_script=False).values) == ["c.o.lr"]


def test_lines_of_every_assignment(tmp_path: Path) -> None:
    path = tmp_path / "train.py"
    path.write_text("lr = 1\nif ddp:\n    pass\n    lr = 2\nc = {'n': 1}\nc = f()\n", "utf-8")
    assert assigned_values(path).lines == {"lr": (1, 4), "c": (5, 6), "c.n": (5, 6)}
