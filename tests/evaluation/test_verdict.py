"""An answer says no more than the flags of the sections that it is drawn from."""

from torchgeo_specdm.evaluation.measure import Interval, Measure, Section
from torchgeo_specdm.evaluation.verdict import QUESTIONS, answer

LABELS, COPIES, HELP = QUESTIONS


def section(title: str, *flags: str) -> Section:
    measures = [Measure(f'{title} {i}', Interval(0.5, 0.4, 0.6), flag=flag) for i, flag in enumerate(flags)]
    return Section(title, 'Well?', measures)


def test_nothing_is_known_without_the_section_that_answers() -> None:
    for question in QUESTIONS:
        for sections in ([], [section(question.sections[0])], [section(name, '') for name in question.sections[1:]]):
            found = answer(question, sections)
            assert (found.state, found.evidence, list(found.flags)) == ('unmeasured', None, [])
            assert question.sections[0].lower() in found.text


def test_a_flag_of_any_section_of_the_question_counts_and_no_other() -> None:
    sections = [section('Masks', '', 'spots'), section('Alignment', ''), section('Copying', ''), section('Else', 'x')]
    found = answer(LABELS, sections)
    assert (found.state, list(found.flags)) == ('flagged', ['spots'])
    assert '1 of 3 measures' in found.text
    assert found.evidence is sections[1].measures[0]
    assert answer(COPIES, sections).state == 'fine'
    assert '1 measure,' in answer(COPIES, sections).text
    assert answer(HELP, sections).state == 'unmeasured'
    # What is wrong is said even where the main section is missing
    assert answer(LABELS, sections[:1]).state == 'flagged'


def test_help_is_claimed_only_if_the_gain_excludes_zero() -> None:
    for interval, word in ((Interval(0.02, 0.01, 0.03), 'yes'), (Interval(0.02, -0.01, 0.03), 'no effect')):
        assert word in answer(HELP, [Section('Usefulness', '', [Measure('gain', interval)])]).text


def test_flags_elsewhere_do_not_hide_that_nothing_was_measured() -> None:
    question = next(q for q in QUESTIONS if q.sections[0] == 'Usefulness')
    flagged = Measure('spectral angle', Interval(0.2, 0.1, 0.3), flag='Spectra are off.')
    found = answer(question, [Section('Spectra', '', [flagged])])
    assert found.state == 'flagged'
    assert 'usefulness was not measured' in found.text
