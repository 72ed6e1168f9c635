"""The quality table: its script runs on a tiny dataset and resumes, and its bars refuse generators that are no good."""

import dataclasses
import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d
from torch.utils.data import Dataset

from tests.conftest import tiny_pipeline, tiny_spec
from tests.data.oscd.data import write_oscd
from torchgeo_specdm.alignment.copies import TrainingIndex
from torchgeo_specdm.datamodules import OSCDLandCoverDataModule
from torchgeo_specdm.evaluation.copying import CopyObserver
from torchgeo_specdm.evaluation.fidelity import FeatureObserver
from torchgeo_specdm.evaluation.measure import Interval
from torchgeo_specdm.evaluation.observation import Observer, observe
from torchgeo_specdm.evaluation.semantics import SemanticsObserver
from torchgeo_specdm.evaluation.spectra import SpectraObserver
from torchgeo_specdm.extractors import make_extractor
from torchgeo_specdm.functional.distances import frechet_distance, kernel_distance
from torchgeo_specdm.functional.landcover import LAND_COVER_BANDS, LAND_COVER_CLASSES, land_cover
from torchgeo_specdm.spec import DatasetSpec

EXAMPLES = Path(__file__).parents[1] / 'examples'
SIZE, COUNT = 32, 48
# A spectrum that the rule gives each class
SPECTRA = torch.tensor(
    [
        [600.0, 800, 500, 300, 200],
        [700, 900, 900, 2100, 1800],
        [400, 700, 500, 3200, 1500],
        [900, 1100, 1300, 1800, 1500],
        [1000, 1200, 1500, 1900, 2400],
        [2600, 2800, 3000, 3300, 3100],
    ]
)


@pytest.fixture(scope='module')
def scripts() -> Iterator[tuple[ModuleType, ModuleType]]:
    """quality.py and degenerate.py, which lie outside of the package."""
    sys.path.insert(0, str(EXAMPLES / 'benchmarks'))
    yield importlib.import_module('quality'), importlib.import_module('degenerate')
    sys.path.remove(str(EXAMPLES / 'benchmarks'))


def land_cover_spec() -> DatasetSpec:
    return dataclasses.replace(
        tiny_spec('segmentation'),
        bands=LAND_COVER_BANDS,
        wavelengths=None,
        classes=LAND_COVER_CLASSES,
        patch_size=SIZE,
    )


class World(Dataset[dict[str, Any]]):
    """Smooth regions of all classes under changing light; the mask is what the rule says of the image."""

    def __init__(self, count: int, seed: int) -> None:
        self.spec = land_cover_spec()
        generator = torch.Generator().manual_seed(seed)

        def noise(channels: int, width: int) -> Tensor:
            drawn = torch.randn(count, channels, SIZE, SIZE, generator=generator)
            return avg_pool2d(drawn, width, 1, width // 2, count_include_pad=False) * width

        cover = avg_pool2d(noise(6, 9), 5, 1, 2, count_include_pad=False).argmax(1)
        light = 1 + 0.05 * torch.randn(count, 1, 1, 1, generator=generator)
        image = SPECTRA[cover].movedim(-1, 1) * light * (1 + 0.03 * noise(5, 5) + 0.02 * noise(5, 1))
        self.image = image.clamp_min(0).round()
        self.mask = land_cover(self.image / 10_000, LAND_COVER_BANDS)

    def __len__(self) -> int:
        return len(self.image)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {'image': self.image[index], 'mask': self.mask[index]}


class Bench:
    """A table whose real samples are a world, with a perfect autoencoder."""

    def __init__(self, quality: ModuleType) -> None:
        self.spec, self.data = land_cover_spec(), World(COUNT, 0)
        index = TrainingIndex.build(self.data, range(COUNT), self.spec)
        self.observers: list[Observer] = [
            FeatureObserver(make_extractor('spectral', self.spec)),
            SpectraObserver(self.spec),
            SemanticsObserver(self.spec),
            CopyObserver(index),
            quality.RuleObserver(self.spec),
        ]
        self.train, self.held_out, self.good = (
            self.see(world) for world in (self.data, World(COUNT, 1), World(COUNT, 2))
        )
        self.table = quality.Table.__new__(quality.Table)
        self.table.spec, self.table.train, self.table.held_out = self.spec, self.train, self.held_out
        self.table.test = {**self.held_out, 'decoded': self.held_out['rule']}
        self.table.ruled = True

    def see(self, dataset: Any) -> Any:
        return observe(dataset, range(len(dataset)), self.observers, batch_size=16)

    def failed(self, dataset: Any) -> list[str]:
        rows = self.table.pair_rows(self.see(dataset), self.good, lower=False)
        return [row.figure for row in rows if row.met is False]


@pytest.fixture(scope='module')
def bench(scripts: tuple[ModuleType, ModuleType]) -> Bench:
    return Bench(scripts[0])


def test_a_perfect_generator_fails_no_bar_of_its_own(bench: Bench, scripts: tuple[ModuleType, ModuleType]) -> None:
    rows = bench.table.pair_rows(bench.see(World(COUNT, 3)), bench.good, lower=False)
    assert [row.figure for row in rows if row.met is False] == []
    exact = next(row for row in rows if row.figure.startswith('exact alignment of synthetic'))
    assert exact.value.value == 1


EXPECTED = {
    'replayed train patches': ['share of copies, pixels'],
    '4 x 4 block means': ['share of copies, pixels'],
    'shuffled masks': ['exact alignment, synthetic over decoded real', 'spectral angle, mean over classes [rad]'],
    'per-class Gaussians': ['images, date1: FD minus floor, baseline over this'],
    'one repeated sample': ['share of copies, pixels', 'images, date1: FD minus floor, baseline over this'],
}


@pytest.mark.parametrize('name', list(EXPECTED))
def test_each_degenerate_generator_fails(name: str, bench: Bench, scripts: tuple[ModuleType, ModuleType]) -> None:
    makers = scripts[1].degenerate_generators(bench.data, COUNT, bench.spec)
    assert set(makers) == set(EXPECTED)
    dataset = makers[name]()
    assert len(dataset) == COUNT
    assert dataset.spec == bench.spec
    assert torch.equal(dataset[5]['image'], dataset[5]['image'])
    assert dataset[5]['image'].shape == bench.spec.image_shape
    assert set(EXPECTED[name]) <= set(bench.failed(dataset))


def test_planted_copies_are_found(bench: Bench, scripts: tuple[ModuleType, ModuleType]) -> None:
    found = observe(scripts[1].PlantedCopies(bench.data, COUNT), range(COUNT), [bench.observers[3]])
    assert (found['copies']['ratio'] < 1 / 3).double().mean() >= 0.95


def test_gaussians_have_the_moments_of_their_class(bench: Bench, scripts: tuple[ModuleType, ModuleType]) -> None:
    drawn = [scripts[1].Gaussians(bench.data, bench.spec)[index] for index in range(COUNT)]
    images, masks = (torch.stack([sample[key] for sample in drawn]) for key in ('image', 'mask'))
    assert torch.equal(masks, bench.data.mask)
    for number in (1, 2):
        made, real = (x.movedim(1, -1)[masks == number].double() for x in (images, bench.data.image))
        assert made.mean(0) == pytest.approx(real.mean(0), rel=0.05)
        assert torch.cov(made.T).diagonal().sqrt() == pytest.approx(torch.cov(real.T).diagonal().sqrt(), rel=0.1)


def test_distances_are_those_of_the_package_at_equal_sizes(scripts: tuple[ModuleType, ModuleType]) -> None:
    generator = torch.Generator().manual_seed(0)
    base, near, far = (torch.randn(60, 4, generator=generator) + shift for shift in (0, 0, 1))
    count, found = scripts[0].distances(base, near, far)
    assert count == 60
    assert found['FD'][0].tolist() == pytest.approx([frechet_distance(base, x) for x in (near, far)], rel=1e-4)
    assert found['KID'][0].tolist() == pytest.approx([kernel_distance(base, x) for x in (near, far)], rel=1e-4)
    assert scripts[0].distances(base, near[:40], far)[0] == 40


def test_a_bar_says_what_was_measured(scripts: tuple[ModuleType, ModuleType]) -> None:
    row = scripts[0].Row('figure', Interval(0.5, 0.4, 0.6))
    assert row.at_most(0.5).met is True
    assert row.at_most(0.4).met is False
    assert row.at_least(0.5).met is True
    assert row.at_least(0.6).met is False
    assert scripts[0].Row('figure').at_most(1).met is None
    assert str(row.at_most(0.4)).endswith('| ≤ 0.4 | not met |')
    assert 'not measured' in str(scripts[0].Row('figure', bar='≤ 1'))
    assert all(row.met is None and row.bar for row in scripts[0].not_measured())


def test_the_script_runs_and_resumes(
    scripts: tuple[ModuleType, ModuleType],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_oscd(tmp_path / 'oscd', test_cities=('dubai',), height=96, width=112)
    module = OSCDLandCoverDataModule(tmp_path / 'oscd', patch_size=32, overlap=0.25)
    module.setup('fit')
    tiny_pipeline(module.train_dataset.spec).save_pretrained(tmp_path / 'checkpoint')
    data = [f'--data.root={tmp_path / "oscd"}', '--data.patch_size=32']
    arguments = [str(tmp_path / 'checkpoint'), '--data', str(EXAMPLES / 'conf' / 'oscd-landcover-cpu.yaml'), *data]
    arguments += ['--n', '24', '--reference-n', '8', '--reference-steps', '21', '--out', str(tmp_path / 'q.json')]
    arguments += ['--baseline', str(tmp_path / 'checkpoint')]
    # Its network takes longer than all else
    monkeypatch.setattr(scripts[0], '_has_lite0', lambda: False)
    scripts[0].main(arguments)
    printed = capsys.readouterr().out
    rows = json.loads((tmp_path / 'q.json').read_text())['rows']
    bars = {row['figure']: row for row in rows if row['bar']}
    assert 'images, date1: FD at 20 steps over 21 ancestral ones' in bars
    assert 'mask branch, mean IoU of the mask' in bars
    assert bars['planted copies found']['samples'] == 24
    assert all(f'| {row["figure"]} |' in printed for row in rows)
    assert all(row['met'] is None or row['value'][0] is not None for row in rows)
    # The baseline is the generator itself
    same = bars['images, date1: FD minus floor, baseline over this']
    assert (same['value'][0], same['met']) == (1, False)

    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError('nothing is generated again')

    monkeypatch.setattr(scripts[0].SpecDMSynthetic, '__getitem__', fail)
    scripts[0].main(arguments)
    assert capsys.readouterr().out == printed
