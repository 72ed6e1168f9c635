"""Real data of the experiments: no scene in two splits, whole test scenes, subsets within subsets."""

from pathlib import Path

import pytest
import torch

from tests.conftest import tiny_spec
from tests.data.oscd.data import TEST_CITIES, write_oscd
from tests.data.segmunich.data import write_segmunich
from torchgeo_specdm.datasets import OSCDLandCover
from torchgeo_specdm.datasets.oscd import oscd_spec
from torchgeo_specdm.datasets.ruled import land_cover_spec
from torchgeo_specdm.datasets.segmunich import segmunich_spec
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.experiments.data import open_data
from torchgeo_specdm.functional.landcover import LAND_COVER_BANDS, land_cover
from torchgeo_specdm.functional.near_duplicates import block_means, near_duplicate_groups

BANDS = ('B02', 'B04')
CHANGE = oscd_spec(BANDS, 32)


@pytest.fixture(scope='module')
def oscd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('oscd')
    write_oscd(folder)
    return folder


@pytest.fixture(scope='module')
def segmunich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('segmunich')
    write_segmunich(folder, places=10)
    return folder


def test_cities_are_whole_and_in_one_split(oscd: Path) -> None:
    data = open_data(CHANGE, oscd, val_cities=('paris', 'pisa'))
    assert data.test.units == sorted(TEST_CITIES)
    assert data.val.units == ['paris', 'pisa']
    assert {scene.region for scene in data.pool.files} == {'abudhabi', 'beirut', 'rennes'}
    assert data.test.samples[0]['image'].shape == (2, 2, 96, 112)
    assert data.pool[0]['image'].shape == CHANGE.image_shape
    assert {scene.region for scene in data.held_out.files} == set(TEST_CITIES)


def test_fewer_pairs_are_among_the_more(oscd: Path) -> None:
    data = open_data(CHANGE, oscd)
    sets = [set(data.drawn(count).indices) for count in (1, 5, 10**9)]
    assert sets[0] < sets[1] < sets[2] == set(range(len(data.pool)))
    assert data.drawn(0).indices == []
    assert len(data.drawn()) == data.count == len(data.pool)  # of fewer than a hundred


def test_scenes_take_all_pairs_that_overlap(oscd: Path) -> None:
    paper, scenes = (open_data(CHANGE, oscd, protocol) for protocol in ('paper', 'scenes'))
    assert len(scenes.pool) > 2 * len(paper.pool)
    assert scenes.count == len(scenes.pool)
    assert (paper.protocol, scenes.protocol) == ('paper', 'scenes')


def test_land_cover_is_that_of_whole_cities_and_both_dates_are_one_unit(oscd: Path) -> None:
    spec = land_cover_spec(oscd_spec((*BANDS, *LAND_COVER_BANDS[1:2]), 32), BANDS)
    data = open_data(spec, oscd)
    assert isinstance(data.pool, OSCDLandCover)
    assert data.test.names == ('brasilia', 'brasilia', 'dubai', 'dubai')
    assert data.test.groups.tolist() == [0, 0, 1, 1]
    whole = open_data(oscd_spec(LAND_COVER_BANDS, 32), oscd).test.samples[1]['image'][1]
    sample = data.test.samples[3]
    assert torch.equal(sample['mask'], land_cover(whole / 10_000, LAND_COVER_BANDS))
    assert torch.equal(sample['image'], whole[[0, 2]])


def test_the_published_split_of_segmunich_is_tested_on(segmunich: Path) -> None:
    data = open_data(segmunich_spec(), segmunich)
    test, val, pool = (set(split.indices) for split in (data.test.samples, data.val.samples, data.pool))
    trains = len(data.pool.dataset.datasets[0])
    assert min(test) >= trains
    assert len(test) == len(data.pool.dataset) - trains
    assert val
    assert val | pool == set(range(trains))
    assert not val & pool
    assert len(data.test.units) == len(test)


def test_copies_of_a_place_are_in_one_split_of_segmunich(segmunich: Path) -> None:
    data = open_data(segmunich_spec(), segmunich, 'scenes')
    splits = [data.test.samples, data.val.samples, data.pool]
    patches = data.pool.dataset
    means = torch.cat([block_means(patches[index]['image'][None]) for index in range(len(patches))])
    groups = near_duplicate_groups(means)
    found = [set(groups[split.indices].tolist()) for split in splits]
    assert all(found)
    assert sum(map(len, found)) == len(set().union(*found)) == int(groups.max()) + 1
    assert sum(len(split) for split in splits) == len(patches)
    assert len(data.test.units) == len(found[0])
    assert data.protocol == 'scenes'


def test_what_has_no_experiment_is_refused(oscd: Path, segmunich: Path) -> None:
    with pytest.raises(SpecDMError, match="imitates 'tiny change'; experiments know OSCD, OSCD landcover, SegMunich"):
        open_data(tiny_spec('change'), oscd)
    with pytest.raises(SpecDMError, match='no cities'):
        open_data(segmunich_spec(), segmunich, val_cities=('paris',))
