"""Are the spectra those of the real classes: class means, order and correlation of bands, histograms, fine detail?"""

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.evaluation.compared import Compared
from torchgeo_specdm.evaluation.measure import Measure, Section
from torchgeo_specdm.evaluation.observation import Observer, Sides
from torchgeo_specdm.evaluation.resampling import interval_about, resampled_interval
from torchgeo_specdm.evaluation.spectral_sides import SpectralPair, SpectralSide
from torchgeo_specdm.functional.spectra import class_sums, labelled_spectra, roughness
from torchgeo_specdm.spec import DatasetSpec

# Pixels of each sample whose spectra are kept
_DRAWN = 32
# How many times what real samples differ by is flagged; the correlation matrix distance is quadratic in a difference
_FAR, _FAR_SQUARED, _FAR_ROUGHNESS = 1.5, 2.25, 1.25
# By how much more or less than real dates synthetic ones must correlate
_CORRELATION = 0.1


class SpectraObserver(Observer):
    """Class spectra, some pixels' spectra and the roughness of each sample.

    Rows, with T dates, K classes and C bands: ``pixels`` (B, K), ``sum`` and ``squares`` (B, T, K, C) of each class;
    ``drawn`` (B, 32, T, C), spectra of labelled pixels, the same pixels of every sample as far as they are labelled,
    and ``drawn_class`` (B, 32), -1 where a sample has fewer; ``roughness`` (B, T, C), the mean absolute difference of
    neighbouring pixels. Pixels whose spectrum is zero at a date (no data) are left out.

    Args:
        spec: Describes the samples.
    """

    name = 'spectra'

    def __init__(self, spec: DatasetSpec) -> None:
        self.spec = spec

    @property
    def settings(self) -> dict[str, Any]:
        """Number of classes and of drawn pixels."""
        return {'classes': self.spec.num_classes, 'drawn_pixels': _DRAWN}

    def observe(self, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Rows of a batch.

        Raises:
            SpecDMError: A pixel value is not finite.
        """
        if not image.isfinite().all():
            raise SpecDMError('an image holds values that are not finite: its spectra cannot be measured')
        classes = self.spec.num_classes
        found = class_sums(image, mask, classes)
        drawn, labels = _draw_pixels(image, mask.where(labelled_spectra(image, mask, classes), -1))
        return {
            'pixels': found.pixels,
            'sum': found.sums,
            'squares': found.squares,
            'drawn': drawn,
            'drawn_class': labels,
            'roughness': roughness(image),
        }


def _draw_pixels(image: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Spectra ``(B, 32, T, C)`` of labelled pixels and their classes ``(B, 32)``; -1 is no class."""
    labels = labels.flatten(1)
    order = torch.randperm(labels.shape[1], generator=torch.Generator().manual_seed(0))
    # A stable sort brings the labelled ones of the shuffled pixels to the front and keeps their order
    drawn = order[(labels[:, order] < 0).byte().argsort(dim=1, stable=True)[:, :_DRAWN]]
    spectra = image.flatten(3).movedim(-1, 1)
    found = spectra.gather(1, drawn[..., None, None].expand(-1, -1, *spectra.shape[2:]))
    classes = labels.gather(1, drawn)
    if (missing := _DRAWN - drawn.shape[1]) > 0:
        found = torch.cat([found, found.new_zeros(len(found), missing, *found.shape[2:])], 1)
        classes = torch.cat([classes, classes.new_full((len(classes), missing), -1)], 1)
    return found, classes


def measure_spectra(sides: Sides) -> Section:
    """Compare the spectra of synthetic samples with those of train samples, as real ones compare."""
    spec, name, real = sides.spec, SpectraObserver.name, sides.train[SpectraObserver.name]
    halves = [{key: values[sides.halves == half] for key, values in real.items()} for half in (0, 1)]
    rows = [real, *halves, sides.synthetic[name], sides.held_out[name]]
    train, half, other, synthetic, held_out = (SpectralSide(found, seed) for seed, found in enumerate(rows))
    pairs = [SpectralPair(*two) for two in ((synthetic, train), (other, half), (held_out, train))]
    absent = {
        side: [spec.classes[k] for k in (found.classes.pixels[0] == 0).nonzero().flatten().tolist()]
        for side, found in (('synthetic', synthetic), ('train', train))
    }
    measures = [*_angles(pairs, spec), _order(pairs, spec), *_distributions(pairs, spec), _sharpness(pairs)]
    if spec.num_dates > 1:
        measures.append(_dates(synthetic, train, held_out))
    return Section(
        title='Spectra',
        question='Are the spectra those of the real classes?',
        measures=[dataclasses.replace(measure, samples=synthetic.samples) for measure in measures],
        notes=[
            'Synthetic samples are compared with train samples; the reference compares two halves of these, which are '
            'of different ground.',
            *(f'No {side} sample has {", ".join(names)}: left out.' for side, names in absent.items() if names),
        ],
        details={
            'absent': absent,
            'classes': {
                side: {'pixels': found.classes.pixels[0], 'mean': found.classes.mean[0], 'std': found.classes.std[0]}
                for side, found in (('synthetic', synthetic), ('train', train), ('held-out', held_out))
            },
            'bands': {
                side: {'wasserstein': pair.wasserstein / spec.scale, 'roughness': pair.roughness[0]}
                for side, pair in zip(('synthetic', 'real train halves', 'held-out'), pairs, strict=True)
            },
        },
    )


def _compared(pairs: Sequence[SpectralPair], figure: Callable[[SpectralPair], Tensor]) -> Compared:
    return Compared(*(resampled_interval(figure(pair), low=0) for pair in pairs))


def _angles(pairs: Sequence[SpectralPair], spec: DatasetSpec) -> list[Measure]:
    """Spectral angle of the mean spectra: mean over the classes, and of each that both sides have."""
    figures = {'mean over classes': _compared(pairs, lambda pair: pair.angles.nanmean((1, 2)))}
    for k, label in enumerate(spec.classes):
        if not pairs[0].angles[0, 0, k].isnan():
            figures[label or f'class {k}'] = _compared(pairs, lambda pair, k=k: pair.angles[..., k].nanmean(1))  # type: ignore[misc]
    flag = 'Spectra are off by {:.2g} rad ({}), more than those of real samples of other ground.'
    return [
        found.measure(
            f'spectral angle, {label}',
            unit='rad',
            flag=flag.format(found.synthetic.value, label) if found.exceeds(_FAR) else '',
        )
        for label, found in figures.items()
    ]


def _order(pairs: Sequence[SpectralPair], spec: DatasetSpec) -> Measure:
    """How many bands look like another band of the train samples."""
    bands = torch.arange(spec.num_bands)
    found = _compared(pairs, lambda pair: (pair.order != bands).sum(1).double())
    exchanged = [
        f'{spec.bands[band] or band} looks like {spec.bands[like] or like}'
        for band, like in enumerate(pairs[0].order[0].tolist())
        if band != like
    ]
    flag = f'Bands seem to be in another order: {", ".join(exchanged[:4])}{", ..." if len(exchanged) > 4 else ""}.'
    return found.measure('bands that look like another one', flag=flag if found.exceeds(1) else '')


def _distributions(pairs: Sequence[SpectralPair], spec: DatasetSpec) -> list[Measure]:
    """Correlation matrix distance, and Wasserstein distance in the physical quantity."""
    correlation = _compared(pairs, lambda pair: pair.correlation)
    intervals = [
        interval_about(float(pair.wasserstein.mean()), pair.wasserstein_drawn.mean((1, 2)), low=0) for pair in pairs
    ]
    wasserstein = Compared(*(type(one)(*(limit / spec.scale for limit in one)) for one in intervals))
    flags = (
        'Bands do not go together as in real spectra: indices computed from several of them are wrong.',
        'Pixel values are distributed otherwise than in real samples of other ground: images are too dark, too bright '
        'or of wrong contrast.',
    )
    return [
        correlation.measure('correlation matrix distance', flag=flags[0] if correlation.exceeds(_FAR_SQUARED) else ''),
        wasserstein.measure(
            'Wasserstein distance, mean over bands',
            unit=physical_unit(spec),
            settings={'bands': f'{spec.num_bands}, each in the details'},
            flag=flags[1] if wasserstein.exceeds(_FAR) else '',
        ),
    ]


def physical_unit(spec: DatasetSpec) -> str:
    """The unit of a pixel value divided by the spec's scale: what the unit declares as "(quantity x scale)", if so."""
    if spec.scale == 1:
        return spec.unit
    declared = re.search(rf'\(([^()]+) x {spec.scale:.0f}\)', spec.unit)
    return declared[1] if declared else f'{spec.scale:g} x {spec.unit or "pixel value"}'


def _sharpness(pairs: Sequence[SpectralPair]) -> Measure:
    found = _compared(pairs, lambda pair: pair.roughness.nanmean((1, 2)))
    blurred = found.synthetic.value < 1
    flag = f'Neighbouring pixels differ {found.synthetic.value:.2g} times as much as in real images: '
    flag += 'synthetic ones are blurred.' if blurred else 'synthetic ones are noisy.'
    return found.measure('roughness, relative to real', flag=flag if found.off_by(_FAR_ROUGHNESS) else '')


def _dates(synthetic: SpectralSide, train: SpectralSide, held_out: SpectralSide) -> Measure:
    """Correlation of each band's first with its second date, mean over the bands."""

    def figure(side: SpectralSide) -> Tensor:
        bands = side.roughness.shape[2]
        return side.correlation.diagonal(bands, dim1=1, dim2=2)[:, :bands].mean(1)

    made, *real = (resampled_interval(figure(side), -1, 1) for side in (synthetic, train, held_out))
    flag = ''
    if made.high < min(one.low for one in real) - _CORRELATION:
        flag = 'The two dates have less in common than real ones: what did not change looks changed.'
    elif made.low > max(one.high for one in real) + _CORRELATION:
        flag = 'The two dates have more in common than real ones: real dates differ by season and light, too.'
    settings = {'held-out real': real[1].value}
    return Measure('correlation of the dates', made, real[0], 'real train', settings=settings, flag=flag)
