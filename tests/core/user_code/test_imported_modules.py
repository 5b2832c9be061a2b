"""Which of a script's imports are modules of the user, in which files."""

from pathlib import Path

from tui_lab.core.user_code.imported_modules import imported_modules

FILES = {
    "train.py": "import torch, config\nfrom package.optim import *\nimport missing\ndef f(): import late\n",
    "config.py": "from package import model\nimport train\n",
    "late.py": "",
    "package/__init__.py": "from . import base\n",
    "package/base.py": "not Python",
    "package/model.py": "from .deep.inner import x\nfrom ..other import y\n",
    "package/optim.py": "from .base import lr\n",
    "package/deep/inner.py": "from ..base import lr\nfrom ... import config\n",
    "unused.py": "",
}


def test_modules_of_modules_are_found_and_libraries_are_not(tmp_path: Path) -> None:
    for name, source in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(source, "utf-8")
    found = imported_modules(tmp_path / "train.py", [tmp_path / "other", tmp_path])
    assert {str(path.relative_to(tmp_path.resolve())) for path in found.values()} == FILES.keys() - {
        "train.py", "unused.py"
    }  # fmt: skip
    assert found["package.deep.inner"] == (tmp_path / "package" / "deep" / "inner.py").resolve()


def test_relative_imports_of_a_module_that_is_run(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "train.py").write_text("from .config import lr\n", "utf-8")
    (tmp_path / "package" / "config.py").write_text("lr = 1\n", "utf-8")
    assert list(imported_modules(tmp_path / "package" / "train.py", [tmp_path], "package")) == ["package.config"]
