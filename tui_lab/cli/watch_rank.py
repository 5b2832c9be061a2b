"""What runs before the script in those of its processes that are not recorded: under torchrun all but the first."""

import sys

from tui_lab.core.watch.process.script_process import Target, forget_own_modules, when_imported


def begin(loaded_before: set[str], script: str, is_module: bool) -> None:
    """Make this process follow the changes that the first one proposes. Python calls it through `startup`."""
    when_imported("torch", _follow)
    forget_own_modules(loaded_before, Target(script, (), is_module).first_folder())


def _follow() -> None:
    try:
        from tui_lab.core.watch.ranks.following_rank import FollowingRank

        FollowingRank.start()
    except Exception as error:  # Whatever it is, the script must run.
        sys.stderr.write(f"tui-lab: this process cannot be steered: {type(error).__name__}: {error}\n")
