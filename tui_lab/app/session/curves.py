"""The curves of a run, by name: what each step, evaluation and logged value adds to them."""

from tui_lab.app.session.series import Series
from tui_lab.core import events as ev

CURVES = ("loss", "val_loss", "grad_norm", "lr", "update_ratio", "tokens_per_s")
RARE_EXTRAS = ("memory_mib", "gpu_memory_mib")
"""Further measurements that are not made at every step; the latest values are kept. They have curves too."""
LOGGED = "logged/"
"""What the name of a curve begins with if a script logged its values."""
MAX_LOGGED_CURVES = 64
"""Of further names, only the latest value is kept."""


class Curves(dict[str, Series]):
    """All of `CURVES` and `RARE_EXTRAS`, which may have no points, and those of logged values."""

    def __init__(self) -> None:
        super().__init__({name: Series() for name in (*CURVES, *RARE_EXTRAS)})

    def copy(self) -> "Curves":
        """Return curves that do not change with these."""
        copied = Curves()
        copied.update({name: series.copy() for name, series in self.items()})
        return copied

    def add_step(self, event: ev.StepDone, *, is_compiling: bool) -> None:
        """Add a step; while torch compiles, its speed tells nothing."""
        if event.seconds > 0 and not is_compiling:
            self["tokens_per_s"].add(event.step, event.tokens_per_s)
        for name in CURVES:
            if name not in ("val_loss", "tokens_per_s"):
                self[name].add(event.step, getattr(event, name))
        for name in RARE_EXTRAS:
            self[name].add(event.step, (event.extra or {}).get(name))

    def add_logged(self, event: ev.Logged) -> None:
        for name, value in event.values.items():
            key = LOGGED + name
            if key in self or len(self) < len(CURVES) + len(RARE_EXTRAS) + MAX_LOGGED_CURVES:
                self.setdefault(key, Series()).add(event.step, value)
