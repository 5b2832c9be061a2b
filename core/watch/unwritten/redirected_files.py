"""Files that a script changes while it is examined: it gets copies, so that no file of the user is overwritten.

A file that the script makes is its own. One that was there before is copied when it is opened for writing; from then
on the script reads and writes the copy. A file that is removed or replaced by another is only hidden from open().
Covered are open() and what calls it (pathlib, numpy, shutil, json and others), and the functions of os. Not covered
are libraries that open files in C, and other programs that the script starts.
"""

import builtins
import errno
import functools
import io
import itertools
import os
import shutil
from collections.abc import Callable, Iterable
from typing import Any

MAX_BYTES = 2 * 2**30
"""Largest file that is copied."""
SYSTEM = ("/proc/", "/sys/", "/dev/")
_WRITING = os.O_WRONLY | os.O_RDWR


class RedirectedFiles:
    """Replaces the functions that change files by ones that change copies.

    note: gets the name of each file that is not changed. folder: where the copies are; it may not exist yet.
    free: folders in which files may be changed. made: gets the path of each file or folder that the script makes.
    """

    def __init__(
        self,
        folder: str,
        note: Callable[[Any], None],
        free: Iterable[str] = (),
        made: Callable[[str], None] = lambda path: None,
    ) -> None:
        self._folder = folder
        self._note = note
        self._made = made
        self._copies: dict[str, str] = {}
        self._hidden: set[str] = set()
        """Places of files and folders that the script has removed."""
        self._own = {_place(path) for path in free}
        """Places of files and folders that the script has made."""

    def install(self) -> None:
        """Take effect in this process, and in those that it forks."""
        opening = self._opening(builtins.open)
        vars(builtins)["open"] = opening
        vars(io)["open"] = opening
        for name, replacement in (
            ("open", self._os_open),
            ("mkdir", self._mkdir),
            ("remove", self._remove),
            ("unlink", self._remove),
            ("rename", self._rename),
            ("replace", self._rename),
            ("symlink", self._symlink),
        ):
            vars(os)[name] = functools.partial(replacement, vars(os)[name])
        vars(shutil)["rmtree"] = functools.partial(self._rmtree, shutil.rmtree)

    def current(self, path: Any) -> Any:
        """Return the path of the file that has the content for the script: a copy, or the file itself."""
        return self._copies.get(_key(path), path) if is_path(path) else path

    def new_copy(self, path: Any) -> str:
        """Return the path of the copy of a file, which the script reads from now on; its content may be an old one."""
        key = _key(path)
        self._note(path)
        self._hidden.discard(_place(path))
        if key not in self._copies:
            self._copies[key] = _new_file(self._folder, _name_of_copy(key))
        return self._copies[key]

    def path_to_write(self, path: Any, *, empty: bool) -> Any:
        """Return the path to open for writing. empty: whether the present content is not needed."""
        if not self._is_of_user(path):
            if not os.path.lexists(path):
                self._add_own(path)
            return path
        key = _key(path)
        is_new = key not in self._copies
        empty = empty or _place(path) in self._hidden
        if is_new and not empty:
            _check_size(key)
        copy = self.new_copy(path)
        if empty:
            _write_copy(None, copy)
        elif is_new:
            _write_copy(key, copy)
        return copy

    def _is_of_user(self, path: Any) -> bool:
        """Return whether a path is that of a file which was there before, or of one that has a copy."""
        place = _place(path)
        key = _key(path)
        if place in self._hidden or key in self._copies:
            return True
        return os.path.isfile(key) and not key.startswith(SYSTEM) and not self._is_own(place)

    def _add_own(self, path: Any) -> None:
        """Note a file or folder that the script makes."""
        place = _place(path)
        if place not in self._own:
            self._made(place)
        self._own.add(place)

    def _is_own(self, place: str) -> bool:
        """Return whether the script has made a file or folder, or one that it is in."""
        while place not in self._own:
            folder = os.path.dirname(place)
            if folder == place:
                return False
            place = folder
        return True

    def _to_read(self, path: Any) -> Any:
        if _place(path) in self._hidden:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path))
        return self.current(path)

    # What replaces the functions

    def _opening(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def opening(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            if not is_path(file) or not isinstance(mode, str):
                return original(file, mode, *args, **kwargs)
            if not set("wax+") & set(mode):
                return original(self._to_read(file), mode, *args, **kwargs)
            if "x" in mode and not self._is_of_user(file):
                opened = original(file, mode, *args, **kwargs)
                self._add_own(file)
                return opened
            if "x" in mode and _place(file) in self._hidden:
                mode = mode.replace("x", "w")
            elif "x" in mode:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fspath(file))
            return original(self.path_to_write(file, empty="w" in mode), mode, *args, **kwargs)

        return opening

    def _os_open(self, original: Callable[..., int], path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        if not is_path(path) or kwargs.get("dir_fd") is not None or os.path.isdir(path):
            return original(path, flags, *args, **kwargs)
        if not flags & _WRITING:
            return original(self._to_read(path) if not flags & os.O_CREAT else path, flags, *args, **kwargs)
        if flags & os.O_EXCL and _place(path) not in self._hidden:
            descriptor = original(path, flags, *args, **kwargs)
            self._add_own(path)
            return descriptor
        return original(self.path_to_write(path, empty=bool(flags & os.O_TRUNC)), flags & ~os.O_EXCL, *args, **kwargs)

    def _mkdir(self, original: Callable[..., None], path: Any, *args: Any, **kwargs: Any) -> None:
        if is_path(path) and _place(path) in self._hidden:
            self._hidden.discard(_place(path))
            return
        original(path, *args, **kwargs)
        if is_path(path) and kwargs.get("dir_fd") is None:
            self._add_own(path)

    def _remove(self, original: Callable[..., None], path: Any, **kwargs: Any) -> None:
        if not is_path(path) or kwargs.get("dir_fd") is not None or not self._is_of_user(path):
            original(path, **kwargs)
            return
        self._to_read(path)
        self._hide(path)

    def _rename(self, original: Callable[..., None], source: Any, target: Any, **kwargs: Any) -> None:
        if kwargs or not is_path(source) or not is_path(target):
            original(source, target, **kwargs)
            return
        if os.path.isdir(source):
            self._rename_folder(original, source, target)
            return
        content = self._to_read(source)
        if not os.path.exists(content) or not (self._is_of_user(source) or self._is_of_user(target)):
            original(source, target)
            self._add_own(target)
            return
        is_copy = content is not source
        new = self.new_copy(target) if is_copy else self.path_to_write(target, empty=True)
        _write_copy(content, new)
        if self._is_of_user(source):
            self._hide(source)
        else:
            os.unlink(source)

    def _rename_folder(self, original: Callable[..., None], source: Any, target: Any) -> None:
        if not self._is_own(_place(source)):
            self._note(source)
            return
        original(source, target)
        self._add_own(target)

    def _symlink(self, original: Callable[..., None], source: Any, target: Any, *args: Any, **kwargs: Any) -> None:
        if not is_path(target) or _place(target) not in self._hidden:
            original(source, target, *args, **kwargs)

    def _rmtree(self, original: Callable[..., None], path: Any, *args: Any, **kwargs: Any) -> None:
        if not is_path(path) or self._is_own(_place(path)) or not os.path.isdir(path):
            original(path, *args, **kwargs)
            return
        self._hide(path)

    def _hide(self, path: Any) -> None:
        self._note(path)
        if not os.path.islink(path):
            self._copies.pop(_key(path), None)
        self._hidden.add(_place(path))


def is_path(value: Any) -> bool:
    """Return whether a file is given by its path."""
    return isinstance(value, str | bytes | os.PathLike)


def _key(path: Any) -> str:
    """Return the path of the file itself, which a symbolic link may lead to."""
    return os.path.realpath(os.fsdecode(path))


def _place(path: Any) -> str:
    """Return the absolute path of a file, or of the symbolic link to one."""
    folder, name = os.path.split(os.path.abspath(os.fsdecode(path)))
    return os.path.join(os.path.realpath(folder), name)


def _name_of_copy(path: str) -> str:
    """Return the path of a copy in its folder: as from the current folder, if the file is in there."""
    current = os.path.join(os.path.realpath(os.getcwd()), "")
    return path.removeprefix(current) if path.startswith(current) else path.lstrip(os.sep)


def _new_file(folder: str, name: str) -> str:
    """Create an empty file with this path, or with a number before its name, and return its path."""
    inner, base = os.path.split(name)
    os.makedirs(os.path.join(folder, inner), exist_ok=True)
    for number in itertools.count(1):
        path = os.path.join(folder, inner, base if number == 1 else f"{number}-{base}")
        try:
            io.FileIO(path, "x").close()
        except FileExistsError:  # Of a forked process.
            continue
        return path
    raise AssertionError("unreachable")


def _check_size(path: str) -> None:
    size = os.stat(path).st_size
    if size > MAX_BYTES:
        reason = f"{size / 2**30:.1f} GiB are too large to copy, and a tried script must not change the original"
        raise PermissionError(errno.EPERM, reason, path)


def _write_copy(source: Any, target: Any) -> None:
    """Write the content of a file, or nothing without a source, into another file."""
    with io.FileIO(os.fspath(target), "w") as copy:
        if source is not None:
            with io.FileIO(os.fspath(source)) as original:
                shutil.copyfileobj(original, copy)
