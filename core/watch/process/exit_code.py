"""The exit code of a script that ends by SystemExit, for which Python calls no hook and keeps no exception.

What ended a script is read from the frame of its module: a module that runs to its end returns. The frame keeps
nothing alive but the script's global variables.

A direct `raise SystemExit(code)` is not seen. Python frees that exception before it calls the first exit handler, and
hands its code to C's exit() after the last one. `sys.last_value` is not set and `sys.excepthook` not called. A class in
place of the builtin one would no longer catch what `sys.exit` raises, and tracing would slow down every call. That the
module was left by an exception says nothing, either: a healthy script may end with `raise SystemExit(main())`. The
parent process, which gets the code, is a shell or scheduler, or an app that may be gone by then.
"""

import builtins
import dis
import functools
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from tui_lab.core.watch.variables.frames import with_callers


class ExitCode:
    """Remembers the code of the last call of sys.exit, exit or quit in the main thread."""

    def __init__(self) -> None:
        self._call: tuple[FrameType, Any] | None = None

    def watch(self) -> None:
        """Replace the functions. They raise SystemExit as before."""
        sys.exit = self._noted(sys.exit, 0)
        quitter = type(getattr(builtins, "exit", None))
        if quitter.__name__ == "Quitter":  # Without the module `site` there is none.
            setattr(quitter, "__call__", self._noted(quitter.__call__, 1))  # noqa: B010 - mypy refuses to assign it.

    def exception(self) -> SystemExit | None:
        """Return the exception that ended the script's module; None if it returned, or the code is not known."""
        if self._call is None:
            return None
        module, code = self._call
        last = dis.opname[module.f_code.co_code[module.f_lasti]]
        return None if last.startswith("RETURN_") else SystemExit(code)

    def _noted(self, original: Callable[..., Any], place: int) -> Any:
        """Return a function that notes its argument at `place`, or None, and calls `original`."""

        @functools.wraps(original)
        def exit_noted(*args: Any, **kwargs: Any) -> Any:
            if threading.current_thread() is threading.main_thread() and (module := _frame_of_script()) is not None:
                self._call = (module, args[place] if len(args) > place else kwargs.get("code"))
            return original(*args, **kwargs)

        return exit_noted


def _frame_of_script() -> FrameType | None:
    """Return the frame of the module `__main__`, if it is running."""
    main = vars(sys.modules["__main__"])
    frames = with_callers(sys._getframe())
    return next((each for each in frames if each.f_code.co_name == "<module>" and each.f_globals is main), None)
