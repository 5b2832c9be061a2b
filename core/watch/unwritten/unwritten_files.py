"""Keep a script that is examined from writing its checkpoints: a half-trained one must not replace the user's files."""

import io
import os
from collections.abc import Callable
from typing import Any

from tui_lab.core.watch.process.script_process import when_imported
from tui_lab.core.watch.unwritten.changed_files import with_path
from tui_lab.core.watch.unwritten.event_files import redirect_event_files
from tui_lab.core.watch.unwritten.redirected_files import RedirectedFiles

MAX_BYTES = 256 * 2**20
"""Largest checkpoint that is kept, for a script that loads it again."""


class UnwrittenFiles:
    """Replaces the functions that write checkpoints by ones that write nothing, and protects existing files.

    names: what would have been written, in order. folder: for copies. made: gets the path of each file or folder that
    the script makes.
    """

    def __init__(self, folder: str, made: Callable[[str], None] = lambda path: None) -> None:
        self.names: list[str] = []
        self._folder = folder
        self._redirected = RedirectedFiles(folder, self.note, made=made)

    def install(self) -> None:
        """Take effect: now for existing files, and as soon as the script imports a library for its functions."""
        self._redirected.install()
        redirect_event_files(self._folder, self.note)
        when_imported("torch", self._replace_torch)
        for module in ("safetensors.torch", "safetensors.numpy"):
            self._when_imported(module, "save_file", lambda args, kwargs: _argument(args, kwargs, 1, "filename"))
        self._when_imported("transformers.modeling_utils", "PreTrainedModel.save_pretrained", _directory)
        self._when_imported("transformers.trainer", "Trainer._save_checkpoint", lambda args, kwargs: _folder(args))
        self._when_imported("transformers.trainer", "Trainer.save_model", lambda args, kwargs: _folder(args))
        for package in ("lightning.pytorch", "pytorch_lightning"):
            strategy = f"{package}.strategies.strategy"
            self._when_imported(strategy, "Strategy.save_checkpoint", lambda a, k: _argument(a, k, 2, "filepath"))
            self._when_imported(strategy, "Strategy.remove_checkpoint", lambda a, k: None)

    def note(self, place: Any) -> None:
        """Note the name of a file or folder that is not written."""
        name = os.fsdecode(place) if isinstance(place, str | bytes | os.PathLike) else str(place)
        if name not in self.names:
            self.names.append(name)

    def _when_imported(self, module: str, name: str, place: Callable[[tuple[Any, ...], dict[str, Any]], Any]) -> None:
        def replace() -> None:
            import sys

            owner: Any = sys.modules[module]
            *outer, last = name.split(".")
            for part in outer:
                owner = getattr(owner, part, None)
            if owner is not None and hasattr(owner, last):
                setattr(owner, last, self._noting(place))

        when_imported(module, replace)

    def _noting(self, place: Callable[[tuple[Any, ...], dict[str, Any]], Any]) -> Callable[..., None]:
        def write_nothing(*args: Any, **kwargs: Any) -> None:
            written = place(args, kwargs)
            if written is not None:
                self.note(written)

        return write_nothing

    def _replace_torch(self) -> None:
        import torch

        save: Callable[..., None] = vars(torch)["save"]
        load: Callable[..., Any] = vars(torch)["load"]

        def save_nothing(obj: Any, f: Any, *args: Any, **kwargs: Any) -> None:
            name = _file_name(f)
            if name is None:
                save(obj, f, *args, **kwargs)
                return
            self.note(name)
            self._keep(name, lambda buffer: save(obj, buffer, *args, **kwargs))

        vars(torch)["save"] = save_nothing
        vars(torch)["load"] = with_path(load, 0, self._redirected.current)

    def _keep(self, name: str, write: Callable[[io.BytesIO], None]) -> None:
        buffer = io.BytesIO()
        write(buffer)
        if buffer.tell() <= MAX_BYTES:
            with open(self._redirected.new_copy(name), "wb") as copy:
                copy.write(buffer.getbuffer())


def _file_name(file: Any) -> str | None:
    """Return the name of a file given by its path; None for a buffer or an open file, which is not protected."""
    return os.fsdecode(file) if isinstance(file, str | bytes | os.PathLike) else None


def _argument(args: tuple[Any, ...], kwargs: dict[str, Any], position: int, name: str) -> Any:
    return args[position] if len(args) > position else kwargs.get(name, "a checkpoint")


def _directory(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return _argument(args, kwargs, 1, "save_directory")


def _folder(args: tuple[Any, ...]) -> Any:
    return getattr(getattr(args[0], "args", None), "output_dir", "a checkpoint")
