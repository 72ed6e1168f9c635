"""Rows belong to samples, whatever the batches, and are computed once."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.conftest import tiny_spec
from tests.fake import FakePairs
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.evaluation.cache import Cache, fingerprint
from torchgeo_specdm.evaluation.measure import bootstrap
from torchgeo_specdm.evaluation.observation import Observer, observe


class Mean(Observer):
    name = 'mean/of'

    def __init__(self, scale: float = 1.0) -> None:
        self.scale, self.batches = scale, 0

    @property
    def settings(self) -> dict[str, Any]:
        return {'scale': self.scale}

    def observe(self, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
        assert image.ndim == 5
        assert mask.ndim == 3
        self.batches += 1
        return {'image': self.scale * image.mean((1, 2, 3, 4)), 'mask': mask.float().mean((1, 2))}


@pytest.mark.parametrize('task', ['segmentation', 'change'])
def test_rows_are_of_their_samples(task: str) -> None:
    dataset = FakePairs(tiny_spec(task))
    rows = observe(dataset, [5, 2, 7], [Mean()], batch_size=2)['mean/of']
    for row, index in enumerate((5, 2, 7)):
        torch.testing.assert_close(rows['image'][row], dataset[index]['image'].mean())
        torch.testing.assert_close(rows['mask'][row], dataset[index]['mask'].float().mean())


def test_rows_are_computed_once(tmp_path: Path) -> None:
    dataset, cache = FakePairs(tiny_spec('change')), Cache(tmp_path)
    first, second = Mean(), Mean()
    rows = [cache.observe(dataset, range(8), [each], batch_size=4, text='') for each in (first, second)]
    assert (first.batches, second.batches) == (2, 0)
    for name, value in rows[0]['mean/of'].items():
        assert torch.equal(rows[1]['mean/of'][name], value)


def test_other_settings_or_samples_are_other_rows(tmp_path: Path) -> None:
    dataset, cache = FakePairs(tiny_spec('change')), Cache(tmp_path)
    cache.observe(dataset, range(8), [Mean()], batch_size=4, text='')
    for observer, source, indices in (
        (Mean(2.0), dataset, range(8)),
        (Mean(), dataset, range(7)),
        (Mean(), FakePairs(tiny_spec('change'), split='val'), range(8)),
    ):
        cache.observe(source, indices, [observer], batch_size=8, text='')
        assert observer.batches == 1


def test_a_damaged_entry_is_named(tmp_path: Path) -> None:
    dataset, cache = FakePairs(tiny_spec('change')), Cache(tmp_path)
    cache.observe(dataset, range(8), [Mean()], batch_size=4, text='')
    (entry,) = tmp_path.iterdir()
    entry.write_bytes(b'no tensors')
    with pytest.raises(SpecDMError, match='delete it'):
        cache.observe(dataset, range(8), [Mean()], batch_size=4, text='')


def test_a_fingerprint_tells_datasets_apart() -> None:
    spec = tiny_spec('change')
    names = {
        fingerprint(dataset, indices)
        for dataset in (FakePairs(spec), FakePairs(spec, split='val'))
        for indices in (range(8), range(4), [1, 0])
    }
    assert len(names) == 6
    assert fingerprint(FakePairs(spec), range(8)) == fingerprint(FakePairs(spec), list(range(8)))


def test_a_bootstrap_interval_covers_the_mean_as_often_as_it_says() -> None:
    generator = torch.Generator().manual_seed(0)
    covered = 0
    for _ in range(100):
        values = torch.randn(50, generator=generator)
        found = bootstrap(lambda rows, values=values: float(values[rows].mean()), 50)
        assert found.low <= found.value <= found.high
        covered += found.low <= 0 <= found.high
    assert 88 <= covered <= 99
