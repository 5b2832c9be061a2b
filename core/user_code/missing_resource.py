"""What to do about an error of user code whose cause is this machine: it has no GPU, or reaches no network."""

import ast
import shlex
import socket
import urllib.error
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

Resource = Literal["gpu", "network"]

NO_GPU = (
    "Torch not compiled with CUDA enabled",
    "Found no NVIDIA driver",
    "No CUDA GPUs are available",
    "no CUDA-capable device is detected",
)
"""Parts of torch's messages."""
DECLARING = ("add_argument", "option")
"""Functions of argparse, and of click and typer, that declare an argument of the command line."""
PARSERS = ("fire", "tyro", "typer", "jsonargparse", "simple_parsing", "HfArgumentParser", "tap")
"""Packages and classes that make arguments of the command line from functions or classes."""
MAX_LINKS = 10


def missing_resource(error: BaseException) -> Resource | None:
    """Return what this machine lacks if that is the cause of an error of user code, else None."""
    for link in links(error):
        if any(part in str(link) for part in NO_GPU):
            return "gpu"
        if isinstance(link, socket.gaierror | ConnectionRefusedError | urllib.error.URLError):
            return "network"
    return None


def links(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, what it was raised from, and so on."""
    link: BaseException | None = error
    for _ in range(MAX_LINKS):
        if link is None:
            return
        yield link
        link = link.__cause__ or link.__context__


def next_step(
    resource: Resource, source: Path, script: Sequence[str], arguments: Sequence[str] = (), command: str = "doctor"
) -> str:
    """Return what the user can do.

    source: the script's file. script: what names it on the command line. command: of tui-lab.
    """
    if resource == "network":
        return (
            "this machine cannot reach the network: run the script once where it can, so that its downloads are cached"
        )
    tree = _parsed(source)
    flag = "" if tree is None else device_flag(tree, source.parent)
    if flag:
        words = shlex.join(["tui-lab", command, *script, "--", *arguments, *flag.split()])
        return f"torch has no GPU here: pass the script's own arguments after --: {words}"
    line = None if tree is None else _line_of_cuda(tree)
    return 'torch has no GPU here: set the device to "cpu"' + (f" in line {line}" if line else "")


def device_flag(tree: ast.Module, folder: Path) -> str:
    """Return the argument that makes a script use the CPU, such as "--device cpu"; "" if it seems to have none.

    folder: where files are that the script executes by their names.
    """
    for flag, is_switch in _declared(tree):
        name = flag.lstrip("-").replace("_", "-").lower()
        if is_switch and name in ("cpu", "use-cpu", "no-cuda", "no-gpu", "disable-cuda"):
            return flag
        if not is_switch and name in ("device", "accelerator"):
            return f"{flag} cpu"
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    imported = {part for node in ast.walk(tree) for part in _imported(node)}
    if imported & set(PARSERS):
        name = next(_names_of_cuda(tree), "")
    elif any(_overrides_globals(each) for each in (tree, *_executed(tree, folder))):
        name = next((name for name in _names_of_cuda(ast.Module(tree.body, [])) if name in names), "")
    else:
        name = ""
    return f"--{name}=cpu" if name else ""


def _parsed(file: Path) -> ast.Module | None:
    try:
        return ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return None


def _declared(tree: ast.Module) -> Iterator[tuple[str, bool]]:
    """Yield the declared arguments, and of each whether it is a switch, which takes no value."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or getattr(node.func, "attr", "") not in DECLARING:
            continue
        texts = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        is_switch = texts.get("action", "").strip("'\"").startswith("store_") or texts.get("is_flag") == "True"
        for argument in node.args:
            if isinstance(argument, ast.Constant) and str(argument.value).startswith("--"):
                yield str(argument.value), is_switch


def _imported(node: ast.AST) -> Iterator[str]:
    """Yield the top packages and the names that an import takes."""
    if isinstance(node, ast.Import):
        yield from (alias.name.partition(".")[0] for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield (node.module or "").partition(".")[0]
        yield from (alias.name for alias in node.names)


def _overrides_globals(tree: ast.Module) -> bool:
    """Return whether code sets global variables from the words of the command line."""
    reads = any(isinstance(node, ast.Attribute) and node.attr == "argv" for node in ast.walk(tree))
    return reads and any(isinstance(node, ast.Name) and node.id == "globals" for node in ast.walk(tree))


def _executed(tree: ast.Module, folder: Path) -> Iterator[ast.Module]:
    """Yield the sources that the script executes: exec(open("settings.py").read())."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "exec":
            for part in ast.walk(node):
                if isinstance(part, ast.Constant) and str(part.value).endswith(".py"):
                    executed = _parsed(folder / str(part.value))
                    if executed is not None:
                        yield executed


def _names_of_cuda(tree: ast.AST) -> Iterator[str]:
    """Yield the names of variables, fields and parameters whose value is "cuda", or "cuda:0"."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and _is_cuda(node.value):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and _is_cuda(node.value) and isinstance(node.target, ast.Name):
            yield node.target.id
        elif isinstance(node, ast.arguments):
            with_default = node.args[len(node.args) - len(node.defaults) :]
            pairs = [
                *zip(with_default, node.defaults, strict=True),
                *zip(node.kwonlyargs, node.kw_defaults, strict=True),
            ]
            yield from (parameter.arg for parameter, default in pairs if _is_cuda(default))


def _is_cuda(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Constant) and str(node.value).partition(":")[0] == "cuda"


def _line_of_cuda(tree: ast.Module) -> int | None:
    return next((node.lineno for node in ast.walk(tree) if isinstance(node, ast.Constant) and _is_cuda(node)), None)
