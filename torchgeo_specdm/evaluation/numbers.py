"""Every number of an evaluation by name: those of the page's text, of its tables and behind its figures."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from torchgeo_specdm.class_statistics import ClassStatistics, absent_classes, spectral_angles
from torchgeo_specdm.evaluation.measure import Measure, Section
from torchgeo_specdm.evaluation.result import Evaluation, Generator, Misaligned
from torchgeo_specdm.evaluation.verdict import QUESTIONS, answer


def numbers(evaluation: Evaluation) -> dict[str, Any]:
    """What :func:`torchgeo_specdm.report.write_metrics` writes beside the page."""
    real = evaluation.real_statistics
    return {
        'title': evaluation.title,
        'spec': evaluation.spec.to_dict(),
        'made': evaluation.made,
        'real': {'classes': _classes(real), 'absent': absent_classes(real)},
        'generators': {source.name: _generator(source, real) for source in evaluation.generators},
    }


def _generator(source: Generator, real: ClassStatistics) -> dict[str, Any]:
    return {
        'answers': {question.text: _answer(source, index) for index, question in enumerate(QUESTIONS)},
        'sections': {section.title: _section(section) for section in source.sections},
        'classes': _classes(source.statistics, spectral_angles(real, source.statistics)),
        'absent': absent_classes(source.statistics),
        'closest': {'ratio': [pair.ratio for pair in source.closest]},
        'worst_aligned': [_misaligned(item) for item in source.worst],
        'filtered': source.filtered,
    }


def _answer(source: Generator, index: int) -> dict[str, Any]:
    found = answer(QUESTIONS[index], source.sections)
    return {'state': found.state, 'text': found.text, 'flags': found.flags}


def _section(section: Section) -> dict[str, Any]:
    return {
        'question': section.question,
        'measures': [_measure(measure) for measure in section.measures],
        'flags': section.flags,
        'notes': section.notes,
        'details': section.details,
    }


def _measure(measure: Measure) -> Mapping[str, Any]:
    return dict(vars(measure))


def _misaligned(item: Misaligned) -> dict[str, float]:
    return {'score': item.score, 'rejected_share': float(item.rejected.double().mean())}


def _classes(statistics: ClassStatistics, angles: Tensor | None = None) -> dict[str, dict[str, Any]]:
    """By class; spectra are ``(T, C)``."""
    found = {}
    for k, name in enumerate(statistics.spec.classes):
        values = {'pixels': statistics.pixels[k], 'share': statistics.shares[k]}
        values |= {'mean': statistics.mean[:, k], 'std': statistics.std[:, k]}
        found[name] = values | ({} if angles is None else {'spectral_angle_rad': angles[:, k]})
    return found
