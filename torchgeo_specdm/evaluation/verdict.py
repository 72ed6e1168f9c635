"""The three questions that users ask first, answered from the flags of the measures that speak about them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torchgeo_specdm.evaluation.measure import Measure, Section

State = Literal['fine', 'flagged', 'unmeasured']


@dataclass(frozen=True)
class Question:
    """A question and the sections that answer it.

    Attributes:
        text: The question.
        sections: Titles of sections. Without the first one there is no answer, only what the others flag.
        fine: The answer if nothing is flagged, made of the first measure of the first section.
        flagged: The beginning of the answer if something is.
    """

    text: str
    sections: tuple[str, ...]
    fine: Callable[[Measure], str]
    flagged: str


@dataclass(frozen=True)
class Answer:
    """What the measures of one generator say to a question.

    Attributes:
        state: Whether something is flagged, or nothing was measured.
        text: The answer, in a sentence.
        evidence: The measure that says most, or None.
        flags: What is wrong, one sentence each.
    """

    state: State
    text: str
    evidence: Measure | None
    flags: Sequence[str]


def _gain(measure: Measure) -> str:
    """What a gain from adding synthetic samples says: more than no harm only if its interval excludes 0."""
    return 'In a short trial, yes' if measure.value.low > 0 else 'A short trial shows no effect, and no harm'


QUESTIONS = (
    Question(
        'Can the labels be trusted?',
        ('Alignment', 'Masks', 'Reconstruction'),
        lambda _: 'As far as these checks see, yes',
        'Not without care',
    ),
    Question('Are these copies of my data?', ('Copying',), lambda _: 'No sign of it', 'Some may be'),
    Question('Will it help?', ('Usefulness', 'Fidelity and diversity', 'Spectra'), _gain, 'Doubtful'),
)


def answer(question: Question, sections: Sequence[Section]) -> Answer:
    """The answer that one generator's sections give.

    Args:
        question: One of :data:`QUESTIONS`.
        sections: All sections of the generator.
    """
    found: Mapping[str, Sequence[Measure]] = {s.title: s.measures for s in sections if s.title in question.sections}
    measures = [measure for title in question.sections for measure in found.get(title, ())]
    flags = [measure.flag for measure in measures if measure.flag]
    first = found.get(question.sections[0], ())
    evidence = first[0] if first else None
    count = f'{len(measures)} measure{"" if len(measures) == 1 else "s"}'
    if flags and evidence is None:
        text = f'Not known: {question.sections[0].lower()} was not measured; of {count}, {len(flags)} flagged.'
        return Answer('flagged', text, None, flags)
    if flags:
        return Answer('flagged', f'{question.flagged} ({len(flags)} of {count} flagged).', evidence, flags)
    if evidence is None:
        missing = question.sections[0].lower()
        return Answer('unmeasured', f'Not known: {missing} was not measured.', None, flags)
    return Answer('fine', f'{question.fine(evidence)} ({count}, none flagged).', evidence, flags)
