"""Installed packages with plug-ins, as small as a test needs: a module, and metadata with entry points."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from tui_lab.util import plugin_registry

Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """`install("lab-sums", "1.0", code, tasks="sums = lab_sums:make")` makes a package that imports find.

    It is found by this process, and by the processes that it starts.
    """
    modules_before = set(sys.modules)

    def install_package(package: str, version: str = "1.0", code: str = "", **entry_points: str) -> Path:
        folder = tmp_path / "packages" / package
        metadata = folder / f"{package.replace('-', '_')}-{version}.dist-info"
        metadata.mkdir(parents=True)
        (folder / f"{package.replace('-', '_')}.py").write_text(dedent(code), "utf-8")
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n", "utf-8")
        groups = [f"[tui_lab.{kind}]\n{dedent(lines)}\n" for kind, lines in entry_points.items()]
        (metadata / "entry_points.txt").write_text("\n".join(groups), "utf-8")
        monkeypatch.syspath_prepend(str(folder))
        path = os.environ.get("PYTHONPATH", "")
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(folder), path])))
        plugin_registry.forget()
        return folder

    yield install_package
    for name in set(sys.modules) - modules_before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]
    plugin_registry.forget()


SUMS = """
    import numpy as np
    from tui_lab.data.dataset import Task
    from tui_lab.data.tokenizers import DigitsTokenizer


    class Own(DigitsTokenizer):
        name = "own"


    class Sums:
        n_examples = 40
        length = 3

        def __init__(self, n):
            self.n = n

        def examples(self, ids):
            digits = np.stack([ids % self.n, ids // self.n % self.n], axis=1)
            total = digits.sum(axis=1, keepdims=True) % self.n
            x = np.concatenate([digits, total], axis=1)
            y = np.concatenate([np.full_like(digits, -1), total], axis=1)
            return x, y

        def offsets(self, ids):
            return None


    def make(settings):
        n = settings.options.get("modulus", 7)
        return Task("sums", DigitsTokenizer(n), Sums(n), Sums(n), "exact_match", next_token=False)
"""
"""A task: the sum of two digits modulo `data.options.modulus`."""
