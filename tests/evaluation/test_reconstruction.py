import dataclasses

import pytest
import torch
from torch import Tensor
from torchmetrics import MeanSquaredError
from torchmetrics.classification import MulticlassJaccardIndex

from tests.conftest import tiny_pipeline
from tests.evaluation.world import world, world_spec
from torchgeo_specdm.evaluation.measure import Measure, Section
from torchgeo_specdm.evaluation.reconstruction import ReconstructionObserver, measure_reconstruction
from torchgeo_specdm.functional import spectral_angle
from torchgeo_specdm.models import TwoStreamAutoencoder


def observer(task: str = 'segmentation', seed: int = 0) -> ReconstructionObserver:
    spec = world_spec(task)
    return ReconstructionObserver(tiny_pipeline(spec, seed).autoencoder, spec)


def by_name(section: Section) -> dict[str, Measure]:
    return {measure.name: measure for measure in section.measures}


@pytest.mark.parametrize('task', ['segmentation', 'change'])
def test_figures_are_those_of_torchmetrics(task: str) -> None:
    image, mask = world(9, 0, task)
    looked = observer(task)
    rows = [looked.observe(image[part], mask[part]) for part in (slice(0, 4), slice(4, 9))]
    spec, model = world_spec(task), looked.autoencoder
    section = measure_reconstruction({name: torch.cat([part[name] for part in rows]) for name in rows[0]}, spec)
    found = by_name(section)
    with torch.no_grad():
        made, logits = model.decode(model.encode(image if task == 'change' else image[:, 0], mask).mean)
    made = made.reshape(image.shape)
    rmse = MeanSquaredError(squared=False)(made.flatten(), image.flatten())
    assert found['RMSE'].value.value == pytest.approx(float(rmse) / 10_000, rel=1e-5)
    assert found['RMSE'].unit == 'reflectance'
    assert found['RMSE'].settings['pixel_values'] == pytest.approx(float(rmse), rel=1e-5)
    known = image.ne(0).any(2)
    angle = spectral_angle(made, image, dim=2)[known].mean()
    assert found['spectral angle'].value.value == pytest.approx(float(angle), rel=1e-5)
    cross_entropy = torch.nn.functional.cross_entropy(logits, mask, ignore_index=255)
    assert found['cross-entropy of the mask'].value.value == pytest.approx(float(cross_entropy), rel=1e-5)
    miou = MulticlassJaccardIndex(spec.num_classes, ignore_index=255)(logits.argmax(1), mask)
    assert found['mean IoU of the mask'].value.value == pytest.approx(float(miou), rel=1e-5)
    assert all(measure.value.low < measure.value.value < measure.value.high for measure in section.measures)
    assert all(measure.samples == 9 and measure.reference is None for measure in section.measures)


class Perfect(TwoStreamAutoencoder):
    """Decodes what it was given."""

    def encode(self, image: Tensor, mask: Tensor) -> 'Perfect':  # type: ignore[override]
        self.mean = image
        self.seen = mask
        return self

    def decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        classes = torch.arange(self.num_classes).view(1, -1, 1, 1)
        return z, 50 * (self.seen.unsqueeze(1) == classes).float()


def test_a_perfect_autoencoder_loses_nothing() -> None:
    image, mask = world(6, 0)
    mask = mask.where(mask != 2, 255)
    spec = world_spec()
    rows = ReconstructionObserver(Perfect('segmentation', 4, 3, 255), spec).observe(image, mask)
    section = measure_reconstruction(rows, spec)
    found = by_name(section)
    assert found['RMSE'].value == (0, 0, 0)
    assert found['spectral angle'].value.value < 2e-6
    assert found['mean IoU of the mask'].value == (1, 1, 1)
    assert section.flags == []
    assert section.details['absent'] == ['town']
    assert any('town' in note for note in section.notes)


def test_lost_masks_are_flagged() -> None:
    image, mask = world(6, 0)
    section = measure_reconstruction(observer().observe(image, mask), world_spec())
    assert len(section.flags) == 1
    assert 'masks come back' in section.flags[0]


def test_settings_tell_weights_apart() -> None:
    assert observer().settings == observer().settings
    assert observer().settings != observer(seed=1).settings


def test_a_dataset_without_a_scale_is_measured_in_its_own_unit() -> None:
    spec = dataclasses.replace(world_spec(), unit='counts', scale=1.0)
    found = by_name(measure_reconstruction(observer().observe(*world(4, 0)), spec))['RMSE']
    assert found.unit == 'counts'
    assert found.value.value == pytest.approx(found.settings['pixel_values'])
