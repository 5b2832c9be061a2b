"""Norms of the residual stream against the same computation written out in float64."""

import numpy as np
import torch

from tests.core.inside import plain
from tests.core.inside.models import Gpt, external, transformer
from tui_lab.core.inside.norms import stream_norms
from tui_lab.core.inside.results import StreamNorms

X = np.array([3, 1, 4, 1, 5, 9])


def test_norms_of_our_model() -> None:
    model = transformer()
    passed = plain.run(plain.float64(model.state_dict()), X.tolist(), n_heads=3)
    norms = stream_norms(model, X)
    assert isinstance(norms, StreamNorms) and norms.places == ("embedding", "layers.0", "layers.1")
    for measured, expected in (
        (norms.stream, passed.streams),
        (norms.attention, passed.attention),
        (norms.feed_forward, passed.feed_forward),
    ):
        np.testing.assert_allclose(measured, [np.sqrt((each**2).sum(axis=1)) for each in expected], rtol=1e-5)


def test_norms_of_a_pre_ln_model() -> None:
    gpt = Gpt()
    norms = stream_norms(external(gpt), X)
    assert isinstance(norms, StreamNorms)
    x = gpt.wte(torch.tensor(X)) + gpt.wpe(torch.arange(len(X)))
    attended = gpt.h[0].attn(gpt.h[0].ln_1(x)[None])[0][0]  # type: ignore[operator]
    np.testing.assert_allclose(norms.stream[0], x.norm(dim=1).detach(), rtol=1e-5)
    np.testing.assert_allclose(norms.attention[0], attended.norm(dim=1).detach(), rtol=1e-5)


def test_parts_that_a_layer_does_not_add_as_they_are_have_no_norms() -> None:
    norms = stream_norms(external(Gpt(scaled=True)), X)
    assert isinstance(norms, StreamNorms)
    assert np.isfinite(norms.stream).all() and np.isnan(norms.attention).all() and np.isnan(norms.feed_forward).all()
