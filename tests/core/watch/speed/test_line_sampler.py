"""Which line a thread is at."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from torch import nn

from tui_lab.core.watch.speed.line_sampler import Line, LineSampler, line_of


def frame_inside(path: Path, text: str, module: nn.Module) -> FrameType:
    """Return the innermost frame of what a script of the user calls, which is the function `look`."""
    frames: list[FrameType] = []
    path.write_text(text, "utf-8")
    look: Callable[[], None] = lambda: frames.append(sys._getframe(1))  # noqa: E731 - no frame of a name.
    exec(compile(text, str(path), "exec"), {"look": look, "module": module})
    return frames[0]


def test_innermost_line_of_the_user_is_named(tmp_path: Path) -> None:
    text = "def inner():\n    look()\n\ndef outer():\n    inner()\nouter()\n"
    line = line_of(frame_inside(tmp_path / "train.py", text, nn.Identity()))
    assert line == Line(f"{tmp_path / 'train.py'}:2", "")


def test_functions_of_torch_and_python_are_not_named(tmp_path: Path) -> None:
    text = "module.register_forward_hook(lambda *a: look())\nmodule(0)\n"
    line = line_of(frame_inside(tmp_path / "train.py", text, nn.Identity()).f_back)
    assert line == Line(f"{tmp_path / 'train.py'}:2", "")


def test_function_of_a_library_that_the_line_calls_is_named(tmp_path: Path) -> None:
    library = tmp_path / "site-packages" / "library.py"
    library.parent.mkdir()
    source = "class Layer:\n    def forward(self):\n        look()\n"
    library.write_text(source, "utf-8")
    text = f"names = {{'look': look}}\nexec(compile({source!r}, {str(library)!r}, 'exec'), names)\n"
    text += "names['Layer']().forward()\n"
    line = line_of(frame_inside(tmp_path / "train.py", text, nn.Identity()))
    assert line == Line(f"{tmp_path / 'train.py'}:3", "Layer.forward")


def test_time_of_a_thread_is_returned_once() -> None:
    sampler = LineSampler()
    sampler.start()
    seconds = sampler.stop()
    assert seconds and all(value > 0 for value in seconds.values())
    assert not sampler.stop()


def test_the_interpreter_switches_threads_as_before_afterwards() -> None:
    before = sys.getswitchinterval()
    sampler = LineSampler()
    sampler.start()
    assert sys.getswitchinterval() < before
    sampler.stop()
    assert sys.getswitchinterval() == before
