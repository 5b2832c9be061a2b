"""What may have been meant by words of a command line that no command understands. Imports nothing that takes long."""

from collections.abc import Sequence

from tui_lab.core.watch.process.script_process import Target

WITH_SCRIPT = ("doctor", "lr-find", "memory", "randomness", "speed", "sweep")
"""Commands that take a script, whose own arguments follow `--`."""


def usage_hint(command: str, words: Sequence[str], error: Exception) -> str:
    """Return what may have been meant, or "". words: those after `command`. error: of typer."""
    if getattr(error, "option_name", "") == "--explain":
        return "tui-lab doctor --explain list shows all codes and checks"
    if command in WITH_SCRIPT and type(error).__name__ == "NoSuchOption":
        target = named_script(words)
        return "" if target is None else target.arguments_hint(command)
    return ""


def named_script(words: Sequence[str]) -> Target | None:
    """Return the script or the module that the words of a command line name, without its arguments."""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word == "--":
            return None
        if word.startswith("-m") and (module := word[2:] or following):
            return Target(module, is_module=True)
        if is_script(word):
            return Target(word)
    return None


def is_script(source: str) -> bool:
    """Return whether a word of the command line names a script."""
    return source.endswith((".py", ".pyw")) and not source.startswith("-")
