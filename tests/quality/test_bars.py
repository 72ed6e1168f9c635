"""The bars of the quality table: a perfect generator meets them, each generator that is no good fails one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from degenerate import Gaussians, PlantedCopies, degenerate_generators
from quality_table.pairs import pair_rows, roughness_row
from quality_table.rows import Row
from quality_table.table import RealSides, Side

from tests.quality.world import COUNT, World, land_cover_spec
from torchgeo_specdm.alignment.copies import TrainingIndex
from torchgeo_specdm.datamodules import OSCDLandCoverDataModule
from torchgeo_specdm.evaluation.alignment import BoundaryObserver
from torchgeo_specdm.evaluation.copying import CopyObserver
from torchgeo_specdm.evaluation.faults import Altered, blurred
from torchgeo_specdm.evaluation.fidelity import ImageObserver
from torchgeo_specdm.evaluation.observation import Observer, draw, observe
from torchgeo_specdm.evaluation.rule import RuleObserver
from torchgeo_specdm.evaluation.semantics import SemanticsObserver
from torchgeo_specdm.evaluation.spectra import SpectraObserver
from torchgeo_specdm.extractors import make_extractor

SPEC = land_cover_spec()


class Bench:
    """A world of real samples, with a perfect autoencoder."""

    def __init__(self) -> None:
        self.data = World(COUNT, 0)
        self.copies = CopyObserver(TrainingIndex.build(self.data, range(COUNT), SPEC))
        self.observers: list[Observer] = [
            ImageObserver(make_extractor('spectral', SPEC)),
            SpectraObserver(SPEC),
            SemanticsObserver(SPEC),
            RuleObserver(SPEC),
            BoundaryObserver.calibrate((self.data[index] for index in range(COUNT)), SPEC),
            self.copies,
        ]
        train, held_out = self.see(self.data), self.see(World(COUNT, 1))
        self.real = RealSides(SPEC, train, held_out, {**held_out, 'decoded/rule': held_out['rule']})

    def see(self, dataset: Any) -> Side:
        return observe(dataset, range(len(dataset)), self.observers, batch_size=16)

    def rows(self, dataset: Any) -> list[Row]:
        return pair_rows(self.see(dataset), self.real)


@pytest.fixture(scope='module')
def bench() -> Bench:
    return Bench()


def failed(rows: Sequence[Row]) -> list[str]:
    return [row.figure for row in rows if row.met is False]


def test_a_perfect_generator_fails_no_bar(bench: Bench) -> None:
    rows = bench.rows(World(COUNT, 3))
    assert failed(rows) == []
    exact = next(row for row in rows if row.figure.startswith('exact alignment of synthetic'))
    assert exact.value.value == 1


EXPECTED = {
    'replayed train patches': ['share of copies, pixels'],
    '4 x 4 block means': ['share of copies, pixels', 'roughness of images, relative to train'],
    'shuffled masks': [
        'exact alignment, synthetic over decoded real',
        'spectral angle, mean over classes [rad]',
        'mask edges that the image shows, above chance, relative to held-out real',
    ],
    'per-class Gaussians': ['roughness of images, relative to train'],
    'one repeated sample': ['share of copies, pixels'],
}


@pytest.mark.parametrize('name', list(EXPECTED))
def test_each_degenerate_generator_fails_without_a_baseline(name: str, bench: Bench) -> None:
    makers = degenerate_generators(bench.data, COUNT, SPEC)
    assert set(makers) == set(EXPECTED)
    dataset = makers[name]()
    assert len(dataset) == COUNT
    assert dataset.spec == SPEC
    assert torch.equal(dataset[5]['image'], dataset[5]['image'])
    assert dataset[5]['image'].shape == SPEC.image_shape
    assert set(EXPECTED[name]) <= set(failed(bench.rows(dataset)))


def test_a_worse_generator_does_not_beat_a_better_one(bench: Bench) -> None:
    good = bench.see(World(COUNT, 2))
    bad = bench.see(degenerate_generators(bench.data, COUNT, SPEC)['per-class Gaussians']())

    def verdicts(made: Side, baseline: Side) -> set[bool | None]:
        rows = pair_rows(made, bench.real, {'other': baseline})
        found = {row.met for row in rows if row.figure.endswith('KID, other over this')}
        assert found
        return found

    assert (verdicts(good, bad), verdicts(bad, good), verdicts(good, good)) == ({True}, {False}, {False})


def test_planted_copies_are_found(bench: Bench) -> None:
    found = observe(PlantedCopies(bench.data, COUNT), range(COUNT), [bench.copies])
    assert (found['copies']['ratio'] < 1 / 3).double().mean() >= 0.95


def test_gaussians_have_the_moments_of_their_class(bench: Bench) -> None:
    drawn = [Gaussians(bench.data, SPEC)[index] for index in range(COUNT)]
    images, masks = (torch.stack([sample[key] for sample in drawn]) for key in ('image', 'mask'))
    assert torch.equal(masks, bench.data.mask)
    for number in (1, 2):
        made, real = (x.movedim(1, -1)[masks == number].double() for x in (images, bench.data.image))
        assert made.mean(0) == pytest.approx(real.mean(0), rel=0.05)
        assert torch.cov(made.T).diagonal().sqrt() == pytest.approx(torch.cov(real.T).diagonal().sqrt(), rel=0.1)


def test_the_bar_of_roughness_on_real_ground(shared_data: Path) -> None:
    """New cities meet it, blur of one pixel does not, and Gaussians miss it by far."""
    module = OSCDLandCoverDataModule(shared_data / 'oscd', SPEC.bands, patch_size=64)
    module.setup('fit')
    observer = SpectraObserver(module.train_dataset.spec)

    def see(dataset: Any) -> Side:
        return observe(dataset, draw(dataset, 200), [observer])

    train, held_out = see(module.train_dataset), see(module.val_dataset)
    real = RealSides(module.train_dataset.spec, train, held_out, held_out)
    gaussians = Gaussians(module.train_dataset, real.spec)
    sides = {
        'new': held_out,
        'blurred': see(blurred(module.train_dataset, 1.0)),
        'noisy': see(Altered(module.train_dataset, lambda image: image + 100 * torch.randn(image.shape))),
        'gaussians': see(gaussians),
    }
    found = {name: roughness_row(side, real) for name, side in sides.items()}
    assert {name: row.met for name, row in found.items()} == dict.fromkeys(sides, False) | {'new': True}
    assert found['gaussians'].value.value > 3
