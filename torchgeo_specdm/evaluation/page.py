"""The report of an evaluation: one page, its figures as files, and every number of both as JSON."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from torchgeo_specdm.class_statistics import absent_classes, plot_shares, plot_spectra
from torchgeo_specdm.evaluation.figures import plot_closest, plot_pairs, plot_worst
from torchgeo_specdm.evaluation.numbers import numbers
from torchgeo_specdm.evaluation.result import Evaluation, Generator
from torchgeo_specdm.evaluation.tables import filter_table, interval_text, measure_table, title
from torchgeo_specdm.evaluation.verdict import QUESTIONS, Question, State, answer
from torchgeo_specdm.plotting import class_colors, false_color_bands
from torchgeo_specdm.report import (
    Fragment,
    bullets,
    cards,
    colour_key,
    figure,
    heading,
    joined,
    link,
    mark,
    paragraph,
    table,
    write_metrics,
    write_report,
)

# Heading of the section that a figure belongs to
FIGURES = {
    'pairs': 'Pairs',
    'spectra': 'Spectra',
    'class-shares': 'Masks',
    'closest': 'Copying',
    'worst-aligned': 'Alignment',
}
# In an answer; the sections show all
_FLAGS_SHOWN = 4
_MARKS: dict[State, tuple[str, str]] = {
    'fine': ('no flag', 'good'),
    'flagged': ('! flagged', 'bad'),
    'unmeasured': ('not measured', ''),
}


def write_evaluation(evaluation: Evaluation, out: Path) -> None:
    """Write ``report.html``, ``figures/*.png`` and ``metrics.json``; older ones are replaced.

    Args:
        evaluation: What was found.
        out: The folder; made where it is missing.
    """
    folder = out / 'figures'
    folder.mkdir(parents=True, exist_ok=True)
    found = page(evaluation, folder)
    write_metrics(out / 'metrics.json', numbers(evaluation))
    write_report(out / 'report.html', evaluation.title, found)


def page(evaluation: Evaluation, folder: Path) -> dict[str, list[Fragment]]:
    """The sections of the page by heading; its figures are written to ``folder``."""
    generators = evaluation.generators
    # First what answers the questions, in their order, then what else was measured
    answering = [name for question in QUESTIONS for name in question.sections]
    measured = [section.title for source in generators for section in source.sections]
    sections: dict[str, list[Fragment]] = {'Pairs': []}
    for name in dict.fromkeys((*answering, *measured)):
        if name in measured or name in FIGURES.values():
            sections[name] = measure_table(name, generators)
    for name, (drawing, caption, alt) in _drawings(evaluation).items():
        file = folder / f'{name}.png'
        # Not to be taken for this evaluation's
        file.unlink(missing_ok=True)
        if drawing is not None:
            photo = name not in ('spectra', 'class-shares')
            shown = figure(drawing, caption, 130, alt=alt, file=file, photo=photo)
            sections[FIGURES[name]].append(shown)
    sections['Pairs'].append(_key(evaluation))
    sections['Masks'].append(bullets(_absent(evaluation)))
    sections['What was filtered'] = filter_table(generators)
    sections['How it was made'] = [table(['what', 'how'], list(evaluation.made.items()))]
    sections = {name: parts for name, parts in sections.items() if parts}
    return {'': _head(evaluation, list(sections)), **sections}


def _head(evaluation: Evaluation, titles: Sequence[str]) -> list[Fragment]:
    """The three questions, each with its answer."""
    spec = evaluation.spec
    names = ' and '.join(source.name for source in evaluation.generators)
    image = f'{spec.patch_size} × {spec.patch_size} px, {spec.num_bands} bands'
    dates = ', two dates' if spec.task == 'change' else ''
    return [
        paragraph(f'Synthetic pairs of image and mask by {names}, beside the real pairs that they imitate.'),
        paragraph(f'{spec.name}: {image}{dates}, {spec.num_classes} classes.', 'soft'),
        cards(*(_card(question, evaluation.generators, titles) for question in QUESTIONS)),
    ]


def _card(question: Question, generators: Sequence[Generator], titles: Sequence[str]) -> list[Fragment]:
    parts = [heading(question.text)]
    for source in generators:
        found = answer(question, source.sections)
        if len(generators) > 1:
            parts.append(paragraph(source.name, 'name'))
        parts.append(paragraph(joined(mark(*_MARKS[found.state]), found.text)))
        if measure := found.evidence:
            real = f'; {measure.reference_name}: {interval_text(measure.reference)}' if measure.reference else ''
            parts.append(paragraph(f'{title(measure)}: {interval_text(measure.value)}{real}.', 'soft'))
        more = len(found.flags) - _FLAGS_SHOWN
        parts.append(bullets([*found.flags[:_FLAGS_SHOWN], *([f'{more} more, in the sections below'] * (more > 0))]))
    links = Fragment(', '.join(link(name, name) for name in question.sections if name in titles))
    return [*parts, paragraph(joined('See', links), 'soft')] if links else parts


def _drawings(evaluation: Evaluation) -> dict[str, tuple[Figure | None, str, str]]:
    """By name: the figure, or None where there is nothing to show, its caption, and what it shows in words."""
    spec, generators = evaluation.spec, evaluation.generators
    statistics = {'real': evaluation.real_statistics} | {source.name: source.statistics for source in generators}
    names = ', '.join(statistics)
    change = spec.task == 'change'
    images = 'both dates' if change else 'the image'
    outline = 'The line on both dates surrounds what the mask calls changed.' if change else 'Lines: edges of the mask.'
    false_color = 'False colour shows near infrared, red and green as red, green and blue: plants are red.'
    return {
        'pairs': (
            plot_pairs(evaluation),
            'The first pairs of each side, not selected. All images share the stretch of the real ones. '
            f'{outline} {false_color if false_color_bands(spec) else ""}'.strip(),
            f'A column for each pair, with {images} and the mask; one block for each of {names}.',
        ),
        'spectra': (
            plot_spectra(statistics),
            'Mean spectrum of the pixels of each class, with one standard deviation around it. In brackets: the '
            'spectral angle between the real mean and that of each generator, in the order of the legend.',
            f'Mean spectra by class of {names}. The numbers are in metrics.json.',
        ),
        'class-shares': (
            plot_shares(statistics),
            'Share of each class in the labelled pixels.',
            f'Bars: share of each class in the labelled pixels of {names}. The numbers are in metrics.json.',
        ),
        'closest': (
            plot_closest(evaluation) if any(source.closest for source in generators) else None,
            'The synthetic samples that are nearest to a train sample, above that train sample, as it was turned when '
            'it was nearest. Ratio: distance to it over the distance to the nearest train sample of other ground; '
            'a copy is near 0. Each two share one stretch.',
            'A column for each synthetic sample, with its nearest train sample and their masks.',
        ),
        'worst-aligned': (
            plot_worst(evaluation) if any(source.worst for source in generators) else None,
            'The synthetic samples with the lowest alignment. Pink: pixels at which a model trained on real data '
            'disagrees with the mask. Lines: edges of the mask.',
            f'A column for each sample, with {images}, the mask, and the rejected pixels in pink on grey.',
        ),
    }


def _key(evaluation: Evaluation) -> Fragment:
    spec = evaluation.spec
    colors = (255 * class_colors(spec)).round().astype(int).tolist()
    key = {name: (red, green, blue) for name, (red, green, blue) in zip(spec.classes, colors, strict=True)}
    unlabelled = {} if spec.ignore_index is None else {'no label': (255, 255, 255)}
    return colour_key(key | unlabelled)


def _absent(evaluation: Evaluation) -> list[str]:
    """In words, which classes a side lacks."""
    statistics = {'the real pairs': evaluation.real_statistics}
    statistics |= {f'the pairs of {source.name}': source.statistics for source in evaluation.generators}
    found = {side: absent_classes(values) for side, values in statistics.items()}
    if not any(found.values()):
        return ['Every class occurs on every side.']
    return [f'Absent from {side}: {", ".join(names) or "no class"}.' for side, names in found.items()]
