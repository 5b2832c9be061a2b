"""A stranger's file: FILE.py:NAME to a Case, with errors that name the file, the line and what is allowed."""

import importlib.util
import linecache
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from core.doctor.case import Case
from core.errors import ConfigError
from core.settings import did_you_mean

ROWS, TOKENS = 4, 16
"""Of the random batches that a bare model is given."""


def is_stranger(source: str) -> bool:
    """Whether `source` is written FILE.py:NAME."""
    return ".py:" in source or source.endswith(".py")


def case_from(source: str, watch: Callable[[str], None] = lambda doing: None) -> Case:
    """The case that FILE.py:NAME gives. Raises ConfigError. It runs the file: only ever at a person's word.

    `watch` is told what is being done.
    """
    path, _, name = source.rpartition(":") if ".py:" in source else (source, "", "")
    file = Path(path).expanduser()
    if not file.is_file():
        raise ConfigError([f"{path}: no such file (a stranger's code is given as FILE.py:NAME)"])
    watch("reading the file")
    module = _run(file)
    offered = [key for key, value in vars(module).items() if not key.startswith("_") and _defined_in(value, module)]
    if not name:
        raise ConfigError([f"{source}: which name? write {path}:NAME; it offers {', '.join(offered) or 'none'}"])
    if not hasattr(module, name):
        hint = did_you_mean(name, offered)
        raise ConfigError([f"{path} has no {name!r}{hint} (it offers {', '.join(offered) or 'none'})"])
    watch(f"making {name}")
    return case_of(_made(getattr(module, name), file, name), f"{path}:{name}")


def case_of(thing: Any, source: str) -> Case:
    """A Case as it is; a model with random batches of its own vocabulary. Raises ConfigError."""
    if isinstance(thing, Case):
        return thing
    if not isinstance(thing, nn.Module):
        raise ConfigError(
            [f"{source} gives {type(thing).__name__}: allowed are a torch.nn.Module, a Case, or a function of one"]
        )
    n_vocab = next((m.num_embeddings for m in thing.modules() if isinstance(m, nn.Embedding)), None)
    if n_vocab is None:
        raise ConfigError([f"{source}: the model has no nn.Embedding to tell its vocabulary; give a Case with batches"])

    def batch(step: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(step)
        tokens = torch.randint(0, n_vocab, (ROWS, TOKENS + 1), generator=generator)
        return tokens[:, :-1], tokens[:, 1:]

    return Case(thing, batch, rule="next_token", optimizer=_adam(thing))


def _adam(model: nn.Module) -> torch.optim.Optimizer | None:
    parameters = [p for p in model.parameters() if p.requires_grad]
    return torch.optim.Adam(parameters, lr=1e-3) if parameters else None


def _run(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("tui_lab_stranger", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(file.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise ConfigError([f"{file}, line {error.lineno}: not Python: {error.msg}"]) from error
    except (Exception, SystemExit) as error:
        raise ConfigError([_where(error, file, "running it")]) from error
    return module


def _made(thing: Any, file: Path, name: str) -> Any:
    """A class or function called without arguments; anything else as it is."""
    if isinstance(thing, nn.Module | Case) or not callable(thing):
        return thing
    try:
        return thing()
    except (Exception, SystemExit) as error:
        raise ConfigError([_where(error, file, f"{name}()")]) from error


def _where(error: BaseException, file: Path, doing: str) -> str:
    """What was raised, and in which line of the file."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).resolve() == file.resolve()]
    line = frames[-1].lineno if frames else None
    place = f"{file}, line {line}" if line else str(file)
    text = linecache.getline(str(file.resolve()), line).strip() if line else ""
    return f"{place}: {doing} raised {type(error).__name__}: {error}" + (f" (in: {text})" if text else "")


def _defined_in(value: Any, module: ModuleType) -> bool:
    if isinstance(value, nn.Module | Case):
        return True
    return callable(value) and getattr(value, "__module__", "") == module.__name__
