"""How a script that is tried out ended before its first update: noted in its process, worded in its parent."""

import os
import signal
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tui_lab.core.user_code.missing_resource import missing_resource, next_step
from tui_lab.core.user_code.shown_file import shown_file
from tui_lab.core.user_code.user_files import is_user_code
from tui_lab.core.watch.process.script_process import Target

ARGPARSE_ERROR = 2
"""The exit code of argparse, click and others for arguments that are missing or wrong."""
NOT_SEEN = "training in a process that the script starts is not seen"


def ended_record(error: BaseException | None, script: str) -> dict[str, Any]:
    """Return what `why_no_update` needs, as JSON. error: the one that ended the script, if any."""
    lacks = None if error is None else missing_resource(error)
    place = "" if error is None else error_place(error, script)
    return {"error": place, "lacks": lacks, "file": _file_of(error)}


def why_no_update(target: Target, command: str, code: int, ended: Mapping[str, Any] | None) -> str:
    """Return why a script has made no update.

    command: of tui-lab, which runs it. code: with which its process ended, negative for a signal. ended: what
    `ended_record` returned in that process; None if it could not.
    """
    if ended is not None and ended["error"]:
        error = str(ended["error"])
        if not ended["lacks"]:
            return error
        return f"{error}; {next_step(ended['lacks'], Path(ended['file']), target.program, target.arguments, command)}"
    if code == 0:
        return f"makes no optimizer step; {NOT_SEEN}"
    text = f"{exit_text(code)} before its first optimizer step"
    lacks_arguments = code == ARGPARSE_ERROR and not target.arguments
    return f"{text}; {target.arguments_hint(command)}" if lacks_arguments else text


def exit_text(code: int) -> str:
    """Return how a script ended whose process had the exit code `code`, negative for a signal."""
    if code < 0:
        return f"its process was ended by {_signal_name(-code)}"
    return f"the script ended with exit code {code}"


def error_place(error: BaseException, script: str) -> str:
    """Return what an error of user code was and where: the innermost line that is in no installed package."""
    if isinstance(error, SyntaxError) and error.filename:
        line = f" (in: {error.text.strip()})" if error.text else ""
        return f"{shown_file(error.filename)}, line {error.lineno}: syntax error: {error.msg}{line}"
    frames = traceback.extract_tb(error.__traceback__)
    frames_of_user = [frame for frame in frames if is_user_code(frame.filename)] or frames[-1:]
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if not frames_of_user:
        return f"{script}: {text}"
    line = f" (in: {frames_of_user[-1].line})" if frames_of_user[-1].line else ""
    return f"{shown_file(frames_of_user[-1].filename)}, line {frames_of_user[-1].lineno}: {text}{line}"


def _file_of(error: BaseException | None) -> str:
    """Return the path of the script's file, which an error that ended it passed through."""
    trace = None if error is None else error.__traceback__
    for frame, _ in traceback.walk_tb(trace):
        if frame.f_globals.get("__name__") == "__main__":
            return os.path.abspath(frame.f_code.co_filename)
    return ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
