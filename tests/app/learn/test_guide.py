"""From stage to stage of a lesson: what it needs, when it is complete, and what is kept."""

from pathlib import Path

from tui_lab.app.learn.guide import NO_FINDING, Guess, Guide, guesses
from tui_lab.core.lessons.facts import Measurements
from tui_lab.core.lessons.load import find_lesson, load_lesson
from tui_lab.core.lessons.progress import load_progress

SMALL = Path(__file__).parent / "3-small"
N_VOCAB = 50_257


def guide() -> Guide:
    return Guide(load_progress(load_lesson(SMALL)))


def at(stage: str) -> Guide:
    new = guide()
    new.go_to(new.progress.lesson.index(stage))
    return new


def need(of: Guide) -> str:
    return of.need


def measured(*losses: float, ended: bool = False) -> Measurements:
    return Measurements(list(range(1, len(losses) + 1)), losses, n_vocab=N_VOCAB, ended=ended)


def test_question_comes_before_the_run_and_the_run_completes_the_stage() -> None:
    first = guide()
    assert need(first) == "question"
    assert first.hides_ln_vocab_size
    first.answer(10.8)
    assert (need(first), first.hides_ln_vocab_size, first.done.right) == ("action", False, None)
    first.run_started("see-1")
    assert need(first) == "wait"
    assert first.update(measured(10.82, 10.82), ())  # The guess is judged.
    assert first.done.right
    assert not first.update(measured(10.82, 10.82, 10.81), ())
    assert first.update(measured(10.82, 10.81, ended=True), ())
    assert (need(first), first.done.complete, first.done.failed_facts) == ("nothing", True, [])


def test_fact_that_does_not_hold_is_kept_to_be_said() -> None:
    first = guide()
    first.answer(3)
    first.run_started("see-1")
    first.update(measured(9.0, 8.0, ended=True), ())
    (sentence,) = first.done.failed_facts
    assert "9" in sentence


def test_guess_is_drawn_until_the_run_after_its_own() -> None:
    first = guide()
    first.answer(9)
    first.run_started("see-1")
    first.go_to(1)
    assert guesses(first.progress) == [Guess("loss", 0, 9)]
    first.go_to(4)
    first.run_started("fix-1")
    assert not guesses(first.progress)
    first.go_to(2)
    assert guesses(first.progress) == [Guess("loss", 0, 9)]


def test_guess_about_a_run_is_not_drawn_over_the_next_one() -> None:
    lesson = load_lesson(find_lesson("1-x-and-y"))
    first = Guide(load_progress(lesson))
    for stage, guess in (("start", 2.3), ("train", None), ("floor", 0.46), ("fix", None)):
        first.go_to(lesson.index(stage))
        if guess is None:
            first.run_started(f"{stage}-1")
        else:
            first.answer(guess)
    assert guesses(first.progress) == []
    first.go_to(lesson.index("doctor"))
    assert [each.value for each in guesses(first.progress)] == [2.3, 0.46]


def test_trials_complete_their_stage_and_their_facts_are_checked() -> None:
    trying = at("try")
    assert need(trying) == "action"
    trying.trials_started(["try-trial-1", "try-trial-2"])
    assert need(trying) == "wait"
    assert not trying.update(measured(10.8, ended=True), ())  # The end of the current run does not count.
    trying.trials = [measured(10.8, 10.7), measured(9.0, 9.0)]
    trying.trials_ended()
    assert trying.done.complete
    assert len(trying.done.failed_facts) == 1


def test_expected_finding_counts_wherever_it_is_in_the_report() -> None:
    diagnosing = at("diagnose")
    diagnosing.answer(7)
    assert need(diagnosing) == "question"  # There is no choice 7.
    diagnosing.answer(1)
    assert (diagnosing.done.right, need(diagnosing)) == (False, "action")
    diagnosing.diagnosed(["shuffle_every_step", "double_softmax"])
    assert (diagnosing.done.finding, need(diagnosing)) == ("double_softmax", "nothing")
    diagnosing.diagnosed([])
    assert diagnosing.done.finding == NO_FINDING


def test_fix_is_complete_at_its_goal() -> None:
    fixing = at("fix")
    fixing.run_started("fix-1")
    fixing.update(measured(10.8, 9.0), ())
    assert need(fixing) == "wait"
    fixing.update(measured(4.0, 4.0), ())
    assert fixing.done.complete


def test_stage_without_a_goal_is_complete_when_left_and_the_end_finishes_the_lesson() -> None:
    looking = at("look")
    assert need(looking) == "nothing"
    assert looking.leave_forward()
    assert looking.progress.of("look").complete
    looking.go_to(len(looking.progress.lesson.stages) - 1)
    assert not looking.leave_forward()
    again = guide()  # Read from the disk.
    assert again.progress.is_finished
    assert again.stage.id == "keep"


def test_stage_that_is_skipped_stays_incomplete() -> None:
    first = guide()
    assert first.leave_forward()
    assert not first.progress.of("see").complete
    assert not first.go_to(-1)


def test_guess_is_judged_on_the_run_that_the_stage_starts() -> None:
    lesson = load_lesson(find_lesson("2-tokens"))
    second = Guide(load_progress(lesson))
    second.go_to(lesson.index("gpt2"))
    before = Measurements([60], [2.6], n_vocab=57, ended=True)
    second.update(before, ())
    second.answer(10.8)
    second.update(before, ())
    assert (second.done.right, second.right_number) == (None, None)
    second.run_started("gpt2-1")
    assert (second.done.right, second.right_number) == (None, None)
    second.update(measured(10.84), ())
    assert second.done.right
