"""Find the token ids, the logits over them and the targets in a call of a script's model."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from tui_lab.core.doctor.findings import NotJudged
from tui_lab.core.doctor.program.ids_place import DECODER_IDS, makes_decoder_ids
from tui_lab.core.doctor.program.nested import Key, Path, at, mapped, tensors_in, with_value
from tui_lab.core.watch.model.model_search import NOT_X, X_NAMES, Y_NAMES

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
DECODER_NAMES = (DECODER_IDS, "tgt", "trg", "tgt_in", "target_in", "tgt_input", "decoder_input", "dec_in")
"""Names of arguments that hold a decoder's ids, where a model takes those of an encoder, too."""
AGREEMENT = 0.9
"""Fraction of the targets that are the next id of x, above which x is taken for the row that is continued."""
LABEL_NAMES = ("labels", "label", "targets", "y")
"""Names of arguments that never hold the ids of which a model returns logits, if others may."""
LossForm = Literal["all", "shifted", "last"]
"""Which logits the loss gets: all, all but each row's last (targets are those of the next position), only the last."""


@dataclass(frozen=True)
class TokenForm:
    """Where the ids and the logits of a call are.

    x: the place of the ids in (args, kwargs). logits: the place of the logits in the output.
    flattened: whether these are [B·T, V]. time_first: whether ids are [T, B] and logits [T, B, V].
    inner: whether the model returns no logits, but computes a cross-entropy of them; see `forward`.
    cut: ids at the end of each row that the model takes for targets only.
    decoder_ids: of a model that gets labels at x: (labels=labels) → the decoder's ids, which it makes itself unless
    it gets them.
    """

    x: Path
    logits: Path
    flattened: bool = False
    time_first: bool = False
    inner: bool = False
    cut: int = 0
    decoder_ids: Callable[..., Tensor] | None = None

    def ids(self, arguments: Any) -> Tensor:
        """Return the ids [B, T] of arguments with the batch first.

        They are the tensor itself, unless it is cut, or the ids are made from it.
        """
        x: Tensor = at(arguments, self.x)
        if self.decoder_ids is not None:
            given: Tensor | None = arguments[1].get(DECODER_IDS)
            return self.decoder_ids(labels=x) if given is None else given
        return x[:, : -self.cut] if self.cut else x

    def with_ids(self, arguments: Any, ids: Tensor) -> Any:
        """Return the arguments with other ids."""
        if self.decoder_ids is not None:
            args, kwargs = arguments
            return args, {**kwargs, DECODER_IDS: ids}
        x: Tensor = at(arguments, self.x)
        return with_value(
            arguments, self.x, torch.cat([ids.to(x.dtype), x[: len(ids), x.shape[1] - self.cut :]], dim=1)
        )

    def forward(self, call: Callable[[], Any], x: Tensor) -> Any:
        """Return what the model returns, with logits [B, T, V]. x: the ids as the script has them."""
        if not self.inner:
            return self.shown(call(), x)
        with _CriterionInput() as criterion:
            output = call()
        if criterion.logits is None:
            raise NotJudged("the model did not compute a cross-entropy")
        return self.shown({"output": output, "logits": flat_logits(criterion.logits)}, x)

    def batch_first(self, value: Any) -> Any:
        """Return arguments with [B, T, …] in place of [T, B, …]; the same function gives the script's form back."""
        if not self.time_first:
            return value
        shape = at(value, self.x).shape
        return mapped(value, lambda t: t.transpose(0, 1) if t.dim() >= 2 and t.shape[:2] == shape else t)

    def shown(self, output: Any, x: Tensor) -> Any:
        """Return the output with logits [B, T, V]. x: the ids as the script has them."""
        logits = at(output, self.logits)
        if self.flattened:
            logits = logits.view(*self._shape(x), logits.shape[-1])
        if self.time_first:
            logits = logits.transpose(0, 1)
        return with_value(output, self.logits, logits) if self.flattened or self.time_first else output

    def _shape(self, x: Tensor) -> tuple[int, int]:
        rows, columns = x.shape
        return (rows - self.cut, columns) if self.time_first else (rows, columns - self.cut)

    def original(self, output: Any) -> Any:
        """Return the output as the script gets it; the opposite of `forward`."""
        if self.inner:
            return output["output"]
        if not (self.flattened or self.time_first):
            return output
        logits = at(output, self.logits)
        if self.time_first:
            logits = logits.transpose(0, 1)
        if self.flattened:
            logits = logits.reshape(-1, logits.shape[-1])
        return with_value(output, self.logits, logits)


@dataclass(frozen=True)
class Targets:
    """The targets that a cross-entropy got, in the shape of x. ratio: of the script's loss to the cross-entropy.

    n_classes: V. options: of the cross-entropy.
    """

    y: Tensor
    n_classes: int
    form: LossForm
    ratio: float | None
    options: dict[str, Any]

    @property
    def ignored(self) -> int:
        """The target that the loss skips."""
        return int(self.options.get("ignore_index", -100))


def token_form(model: nn.Module, arguments: Arguments, output: Any, y: Tensor | None) -> TokenForm | None:
    """Return where ids and the first logits are; None for a model that does not map ids [B, T] to logits [B, T, V].

    y: the targets that the loss got, of any shape, to tell the ids of a decoder from those of an encoder.
    """
    return next(token_forms(model, arguments, output, y), None)


def token_forms(model: nn.Module, arguments: Arguments, output: Any, y: Tensor | None) -> Iterator[TokenForm]:
    """Yield where ids and logits are, for each tensor of logits; as `token_form`."""
    ids = list(_ids(model, arguments))
    made: Callable[..., Tensor] | None = None
    if makes_decoder_ids(model, arguments[1]):
        ids = [(name, place, x) for name, place, x in ids if name == "labels"]
        made = model.prepare_decoder_input_ids_from_labels  # type: ignore[assignment]
    for path, logits in tensors_in(output):
        if not logits.is_floating_point() or logits.dim() not in (2, 3):
            continue
        fitting = [(name, place, x) for name, place, x in ids if _fits(x, logits)]
        if fitting:
            place, x = _chosen(fitting, y)
            yield TokenForm(place, path, flattened=logits.dim() == 2, decoder_ids=made)


def inner_form(model: nn.Module, arguments: Arguments, flat: tuple[Tensor, Tensor]) -> TokenForm | None:
    """Return the form of a model that returns only the loss, whose cross-entropy got logits [N, V] and targets [N]."""
    logits, y = flat
    for cut in (0, 1):
        fitting = [(name, path, x) for name, path, x in _ids(model, arguments) if _is_cut(x, len(logits), cut)]
        if fitting:
            path, _ = _chosen(fitting, y)
            return TokenForm(path, (Key("item", "logits"),), flattened=True, inner=True, cut=cut)
    return None


def _is_cut(x: Tensor, n: int, cut: int) -> bool:
    return x.shape[1] > 1 + cut and n == x.shape[0] * (x.shape[1] - cut)


def flat_logits(logits: Tensor) -> Tensor:
    """Return logits [N, V] of those that a cross-entropy takes: [N, V], or [B, V, …]."""
    moved = logits if logits.dim() == 2 else logits.movedim(1, -1)
    return moved.reshape(-1, moved.shape[-1])


class _CriterionInput(TorchFunctionMode):
    """Notes the logits of the last cross-entropy that is computed while it is active."""

    def __init__(self) -> None:
        super().__init__()
        self.logits: Tensor | None = None

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in ("cross_entropy", "nll_loss"):
            self.logits = args[0] if args else kwargs.get("input")
        return func(*args, **kwargs)


def _fits(x: Tensor, logits: Tensor) -> bool:
    """Return whether logits [B, T, V] or [B·T, V] are those of ids [B, T]."""
    if logits.dim() == 3:
        return x.shape == logits.shape[:2] and logits.shape[2] > 1
    return logits.shape[0] == x.numel() and x.shape[1] > 1 and logits.shape[1] > 1


def _chosen(fitting: list[tuple[str, Path, Tensor]], y: Tensor | None) -> tuple[Path, Tensor]:
    """Return the ids that the targets continue; by their names if none or several do."""

    # Labels that the model shifts are continued by the targets, too.
    fitting = [candidate for candidate in fitting if candidate[0] not in LABEL_NAMES] or fitting

    def rank(candidate: tuple[str, Path, Tensor]) -> tuple[bool, bool, bool, bool]:
        name, _, x = candidate
        continued = max(_continued(x, y, 0), _continued(x, y, 1)) > AGREEMENT
        return continued, name in DECODER_NAMES, name in X_NAMES, name not in Y_NAMES

    _, place, x = max(fitting, key=rank)  # The first of equal ones.
    return place, x


def _continued(x: Tensor, y: Tensor | None, dim: int) -> float:
    """Return the fraction of targets that are the next id along `dim`, where both are ids."""
    if y is None or y.numel() not in (x.numel(), _without_last(x, dim)) or x.shape[dim] < 2:
        return 0.0
    shape = list(x.shape)
    if y.numel() != x.numel():
        shape[dim] -= 1
    y = y.reshape(shape).narrow(dim, 0, x.shape[dim] - 1)
    counted = y >= 0
    following = x.narrow(dim, 1, x.shape[dim] - 1)
    return float((y == following)[counted].float().mean()) if bool(counted.any()) else 0.0


def _without_last(x: Tensor, dim: int) -> int:
    return x.numel() // x.shape[dim] * (x.shape[dim] - 1)


def _ids(model: nn.Module, arguments: Arguments) -> Iterator[tuple[str, Path, Tensor]]:
    """Yield the name, place and tensor of each argument that may hold ids [B, T]."""
    args, kwargs = arguments
    try:
        names = [p.name for p in inspect.signature(model.forward).parameters.values()]
    except (TypeError, ValueError):
        names = []
    for path, tensor in tensors_in((args, kwargs)):
        if tensor.dim() != 2 or tensor.is_floating_point() or tensor.dtype == torch.bool or tensor.is_complex():
            continue
        place = path[1:]
        if path[0] == Key("item", 0):
            position = place[0].name
            name = names[position] if len(place) == 1 and position < len(names) else _last_name(place)
        else:
            name = _last_name(place)
        if not any(part in name for part in NOT_X):
            yield name, path, tensor


def _last_name(path: Path) -> str:
    return next((key.name for key in reversed(path) if isinstance(key.name, str)), "")


def is_time_first(form: TokenForm, x: Tensor, y: Tensor | None) -> bool:
    """Return whether the targets show that ids are [T, B]: they continue x along the first dimension only.

    The script may transpose the logits, so that its targets are [B, T].
    """
    along_rows = max(_continued(x, y, 1), _continued(x.t(), y, 0))
    return max(_continued(x, y, 0), _continued(x.t(), y, 1)) > AGREEMENT > along_rows


def with_layout(form: TokenForm, x: Tensor, output: Any, flat: tuple[Tensor, Tensor] | None) -> TokenForm:
    """Return the form with `time_first` as the loss shows it. flat: logits [N, V] and targets [N] of the loss."""
    y = None if flat is None else flat[1]
    return replace(form, time_first=is_time_first(form, x, y) or _is_of_last_position(form, x, output, flat))


def _is_of_last_position(form: TokenForm, x: Tensor, output: Any, flat: tuple[Tensor, Tensor] | None) -> bool:
    """Return whether the loss gets `logits[-1]` only: logits [T, B, V] at the last position."""
    if flat is None or form.inner:
        return False
    logits = at(form.shown(output, x), form.logits)
    got = flat[0]
    rows, columns = logits.shape[:2]
    if rows < 2 or columns < 2 or got.shape != logits.shape[1:]:
        return False
    return _same(logits[-1], got) and not (rows == columns and _same(logits[:, -1], got))


def aligned_targets(
    form: TokenForm, x: Tensor, output: Any, flat: tuple[Tensor, Tensor], ratio: float | None, options: dict[str, Any]
) -> Targets | None:
    """Return the targets of a cross-entropy of logits [N, V] and targets [N]; None if these logits are others.

    x: ids as the script has them. output: what the model returned, as the script gets it.
    """
    if form.inner:
        output = {"output": output, "logits": flat[0]}
    logits = at(form.shown(output, x), form.logits)
    B, T, V = logits.shape
    got, y = flat
    if got.shape[-1] != V:
        return None
    ignored = int(options.get("ignore_index", -100))
    native = logits.transpose(0, 1) if form.time_first else logits
    if len(got) == B * T:
        for candidate, shape in ((native, native.shape[:2]), (native.transpose(0, 1), native.shape[:2][::-1])):
            if _same(candidate.reshape(-1, V), got):
                rows = y.reshape(shape)
                is_first = candidate is native and not form.time_first or candidate is not native and form.time_first
                return Targets(rows if is_first else rows.T, V, "all", ratio, options)
    cut = native[:-1] if form.time_first else native[:, :-1]
    if len(got) == B * (T - 1) and _same(cut.reshape(-1, V), got):
        rows = y.reshape(T - 1, B).T if form.time_first else y.reshape(B, T - 1)
        return Targets(F.pad(rows, (0, 1), value=ignored), V, "shifted", ratio, options)
    if len(got) == B and T > 1 and _same(logits[:, -1], got):
        return Targets(F.pad(y[:, None], (T - 1, 0), value=ignored), V, "last", ratio, options)
    return None


def _same(a: Tensor, b: Tensor) -> bool:
    """Return whether two tensors hold the same numbers; the loss may get them in a wider dtype."""
    return torch.equal(a.to(b.dtype), b)
