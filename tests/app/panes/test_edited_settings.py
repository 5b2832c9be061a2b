"""Settings as the config pane shows them: planted faults stay hidden until the doctor has found them."""

from tui_lab.app.panes.edited_settings import EditedSettings
from tui_lab.core.config import settings

FAULTS = ("double_softmax", "shuffle_every_step")


def test_planted_faults_are_counted_until_the_doctor_names_them() -> None:
    config = settings.load("confusion-3")
    edited = EditedSettings(config, config)
    assert edited.shown_value("faults") == "2 planted"
    assert edited.shown_value("optim.lr") == "0.003"
    edited.hides_faults = False
    assert edited.shown_value("faults") == ", ".join(FAULTS)


def test_faults_that_the_user_typed_are_shown() -> None:
    config = settings.load("confusion-3")
    edited = EditedSettings(config, config)
    edited.edit("faults", ("double_softmax",))
    assert edited.shown_value("faults") == "double_softmax"
    assert edited.shown_initial_value("faults") == "2 planted"


def test_value_in_effect_is_back_where_the_trainer_refused_another() -> None:
    config = settings.load("reverse")
    pane = EditedSettings(config, config)
    pane.edit("optim.lr", 0.5)
    pane.end_edit("optim.lr")
    pane.await_changes({"optim.lr": 0.5})
    assert pane.shown_value("optim.lr") == "0.5"
    pane.await_changes({})
    assert pane.shown_value("optim.lr") == pane.shown_initial_value("optim.lr")


def test_confirmed_value_and_a_later_edit_stay() -> None:
    config = settings.load("reverse")
    pane = EditedSettings(config, config)
    pane.edit("optim.lr", 0.5)
    pane.end_edit("optim.lr")
    pane.await_changes({"optim.lr": 0.5})
    pane.follow(settings.changed(config, "optim.lr", 0.5))
    pane.edit("model.d_model", 32)
    pane.await_changes({})
    assert (pane.shown_value("optim.lr"), pane.shown_value("model.d_model")) == ("0.5", "32")
