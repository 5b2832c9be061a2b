"""The parameter count by formula equals that of the model."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tui_lab.core.config import settings as core_settings
from tui_lab.core.config.schema import ModelConfig
from tui_lab.core.kernels.parameter_count import count_parameters, parameter_table
from tui_lab.core.model import Transformer

sizes = st.integers(1, 12)


@given(
    st.builds(ModelConfig, d_model=sizes, n_layers=sizes, n_heads=sizes, d_head=sizes, d_ff=sizes, context=sizes),
    st.integers(1, 50),
)
@settings(deadline=None, max_examples=30)
def test_table_adds_up_to_the_parameters_of_the_model(config: ModelConfig, n_vocab: int) -> None:
    built = sum(p.numel() for p in Transformer(config, n_vocab).parameters())
    assert count_parameters(config, n_vocab) == sum(row.count for row in parameter_table(config, n_vocab)) == built


def test_pseudo_socrates_has_the_size_that_the_journal_gives() -> None:
    from tui_lab.data.tokenizers import Gpt2Tokenizer

    config = core_settings.load("pseudo-socrates")
    assert count_parameters(config.model, Gpt2Tokenizer().n_vocab) == 17_696_177


def test_head_size_is_independent_of_d_model() -> None:
    wide = ModelConfig(d_model=10, n_heads=3, d_head=7)
    by_symbol = {row.symbol: row.count for row in parameter_table(wide, 5)}
    assert by_symbol["W_Q"] == by_symbol["W_O"] == wide.n_layers * 10 * 21
