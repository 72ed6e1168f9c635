"""What does the autoencoder lose? Held-out real samples, encoded and decoded: no synthetic sample can be better."""

import dataclasses
from typing import Any

import torch
from torch import Tensor

from torchgeo_specdm.comparison import Counts, count_pixels, iou
from torchgeo_specdm.evaluation.measure import Measure, Section
from torchgeo_specdm.evaluation.observation import Observer, Rows, tensors_digest
from torchgeo_specdm.evaluation.resampling import resample_weights, resampled_interval
from torchgeo_specdm.evaluation.spectra import physical_unit
from torchgeo_specdm.functional import spectral_angle
from torchgeo_specdm.models import PairAutoencoder
from torchgeo_specdm.spec import DatasetSpec, one_hot

# Masks that come back worse than this limit what can be learned from synthetic ones
_ENOUGH = 0.9


class ReconstructionObserver(Observer):
    """Errors of the mean of the posterior, decoded.

    Rows, with T dates, K classes and C bands: ``squared`` (B, T, C), the sum of squared errors over ``pixels`` (B,);
    ``angle`` (B,) [rad], the sum of spectral angles over ``spectra`` (B,), those of all dates that are not zero;
    ``cross_entropy`` (B,) [nat], the sum over labelled pixels; ``hit``, ``predicted`` and ``labelled`` (B, K) pixels.

    Args:
        autoencoder: Runs where its parameters are.
        spec: Describes the samples.
    """

    name = 'reconstruction'

    def __init__(self, autoencoder: PairAutoencoder, spec: DatasetSpec) -> None:
        self.autoencoder = autoencoder.eval()
        self.spec = spec

    @property
    def settings(self) -> dict[str, Any]:
        """The autoencoder, its weights as a hash."""
        return {**self.autoencoder.config, 'weights': tensors_digest(self.autoencoder.state_dict())}

    @torch.inference_mode()
    def observe(self, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Rows of a batch.

        Raises:
            SpecDMError: The mask holds a value that is neither a class nor the ignore index.
        """
        device, classes = self.autoencoder.offset.device, self.spec.num_classes
        raw = image if self.spec.num_dates > 1 else image[:, 0]
        made, logits = self.autoencoder.decode(self.autoencoder.encode(raw.to(device), mask.to(device)).mean)
        made, logits = made.reshape(image.shape).cpu(), logits.float().cpu()
        cross_entropy = -(one_hot(mask, classes, self.spec.ignore_index) * logits.log_softmax(1)).sum((1, 2, 3))
        counts = count_pixels(logits.argmax(1), mask, classes)
        return {
            'squared': (made - image).double().square().sum((3, 4)),
            'pixels': torch.full((len(image),), float(mask[0].numel())),
            'angle': spectral_angle(made, image, dim=2).double().sum((1, 2, 3)),
            'spectra': image.ne(0).any(2).sum((1, 2, 3)),
            'cross_entropy': cross_entropy.double(),
            **counts._asdict(),
        }


def measure_reconstruction(rows: Rows, spec: DatasetSpec) -> Section:
    """How far held-out samples are from what the autoencoder makes of them.

    Args:
        rows: Of a :class:`ReconstructionObserver`.
        spec: Describes the samples.
    """
    samples = len(rows['pixels'])
    weights = resample_weights(samples)

    def total(name: str) -> Tensor:
        return (weights @ rows[name].double().view(samples, -1)).view(-1, *rows[name].shape[1:])

    squared = (total('squared') / total('pixels').view(-1, 1, 1)).mean(1)
    rmse, labelled = squared.mean(1).sqrt(), total('labelled')
    scores = iou(Counts(total('hit'), total('predicted'), labelled)).where(labelled > 0, torch.nan)
    absent = [spec.classes[k] for k in (labelled[0] == 0).nonzero().flatten().tolist()]

    def measure(name: str, figure: Tensor, unit: str = '', **settings: Any) -> Measure:
        return Measure(name, resampled_interval(figure, low=0), unit=unit, samples=samples, settings=settings)

    found = measure('mean IoU of the mask', scores.nanmean(1).clamp_max(1))
    if found.value.high < _ENOUGH:
        flag = f'Real masks come back with a mean IoU of {found.value.value:.2f}; synthetic ones pass the same decoder.'
        found = dataclasses.replace(found, flag=flag)
    return Section(
        title='Reconstruction',
        question='What does the autoencoder lose?',
        measures=[
            measure('RMSE', rmse / spec.scale, physical_unit(spec), pixel_values=float(rmse[0])),
            measure('spectral angle', total('angle') / total('spectra'), 'rad'),
            measure('cross-entropy of the mask', total('cross_entropy') / labelled.sum(1), 'nat'),
            found,
        ],
        notes=[
            'Held-out real samples are encoded and decoded again; synthetic samples cannot be better than these.',
            *([f'No held-out sample has {", ".join(absent)}: left out.'] if absent else []),
        ],
        details={
            'absent': absent,
            'bands': spec.bands,
            'rmse_by_band': squared[0].sqrt() / spec.scale,
            'classes': spec.classes,
            'iou_by_class': scores[0],
        },
    )
