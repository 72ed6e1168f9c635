"""Land cover on OSCD's imagery: labels that are a function of their image, two dates on one ground."""

import pickle
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image
from torchgeo.datasets import DatasetNotFoundError, RGBBandsMissingError

from tests.data.oscd.data import TRAIN_CITIES, write_oscd
from torchgeo_specdm.datasets import OSCD, OSCDLandCover
from torchgeo_specdm.datasets.ground import ground, split_halves
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.functional.landcover import land_cover


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('oscd')
    write_oscd(folder)
    return folder


def test_samples_have_the_shapes_and_types_of_the_contract(root: Path) -> None:
    dataset = OSCDLandCover(root, patch_size=32)
    sample = dataset[0]
    assert set(sample) == {'image', 'mask'}
    assert (sample['image'].dtype, sample['mask'].dtype) == (torch.float32, torch.int64)
    assert tuple(sample['image'].shape) == dataset.spec.image_shape == (10, 32, 32)
    assert tuple(sample['mask'].shape) == dataset.spec.mask_shape == (32, 32)
    assert dataset.spec.num_classes == 6
    assert 'NC' not in dataset.spec.licence


def test_both_dates_of_a_place_are_samples_on_one_ground(root: Path) -> None:
    pairs, dataset = OSCD(root, patch_size=32), OSCDLandCover(root, patch_size=32)
    assert len(dataset) == 2 * len(pairs) == len(dataset.windows)
    for index in (0, 5, len(pairs) - 1):
        for date in (0, 1):
            assert torch.equal(dataset[2 * index + date]['image'], pairs[index]['image'][date])
    places = ground(dataset)
    assert torch.equal(places[0::2], places[1::2])
    assert torch.equal(places[0::2], ground(pairs))
    halves = split_halves(places, 32)
    assert torch.equal(halves[0::2], halves[1::2])
    later = OSCDLandCover(root, patch_size=32, dates=[2])
    assert len(later) == len(pairs)
    assert torch.equal(later[7]['image'], dataset[15]['image'])


def test_a_mask_is_the_land_cover_of_its_image(shared_data: Path) -> None:
    others = ('abudhabi', 'aguasclaras', 'beirut', 'bercy', 'bordeaux', 'cupertino', 'hongkong', 'mumbai', 'nantes')
    others += ('beihai', 'pisa', 'rennes', 'saclay_e')
    dataset = OSCDLandCover(shared_data / 'oscd', patch_size=64, overlap=0.5, val_cities=others)
    counts = torch.zeros(6, dtype=torch.long)
    for index in range(0, len(dataset), 5):
        sample = dataset[index]
        assert torch.equal(land_cover(sample['image'] / dataset.spec.scale, dataset.spec.bands), sample['mask'])
        counts += torch.bincount(sample['mask'].flatten(), minlength=6)
    # No class is missing, even in one city
    assert counts.min() > 0


def test_bands_of_the_rule_need_not_be_bands_of_the_sample(root: Path) -> None:
    full, colours = OSCDLandCover(root, patch_size=32), OSCDLandCover(root, bands=('B04', 'B03', 'B02'), patch_size=32)
    assert colours.spec.bands == ('B04', 'B03', 'B02')
    assert colours.spec.wavelengths == (664.6, 559.8, 492.4)
    assert torch.equal(colours[3]['mask'], full[3]['mask'])
    assert torch.equal(colours[3]['image'], full[3]['image'][[2, 1, 0]])


def test_the_maps_of_change_do_not_matter(root: Path, tmp_path: Path) -> None:
    write_oscd(tmp_path)
    for path in tmp_path.rglob('cm.png'):
        Image.fromarray(np.zeros_like(np.asarray(Image.open(path).convert('L')))).save(path)
    before, after = OSCDLandCover(root, patch_size=32), OSCDLandCover(tmp_path, patch_size=32)
    for index in range(0, len(before), 17):
        assert all(torch.equal(before[index][key], after[index][key]) for key in ('image', 'mask'))


def test_splits_are_oscds(root: Path) -> None:
    train, held_out = (OSCDLandCover(root, split, patch_size=32, val_cities=('pisa',)) for split in ('train', 'val'))
    assert [scene.region for scene in train.scenes.files] == sorted(set(TRAIN_CITIES) - {'pisa'})
    assert [scene.region for scene in held_out.scenes.files] == ['pisa']


def test_transforms_and_workers(root: Path) -> None:
    dataset = OSCDLandCover(root, patch_size=32, transforms=lambda s: {**s, 'image': -s['image']})
    plain = OSCDLandCover(root, patch_size=32)
    assert torch.equal(dataset[-1]['image'], -plain[len(plain) - 1]['image'])
    assert torch.equal(pickle.loads(pickle.dumps(plain))[4]['mask'], plain[4]['mask'])  # noqa: S301
    with pytest.raises(IndexError):
        plain[len(plain)]


def test_plot(root: Path) -> None:
    dataset = OSCDLandCover(root, patch_size=32)
    sample = dataset[0]
    figure = dataset.plot({**sample, 'prediction': sample['mask']}, suptitle='Land cover')
    assert [axis.get_title() for axis in figure.axes] == ['Image', 'Mask', 'Prediction']
    plt.close(figure)
    with pytest.raises(RGBBandsMissingError):
        OSCDLandCover(root, bands=('B08',), patch_size=32).plot(sample)


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        ({'bands': ()}, 'at least one band'),
        ({'bands': ('B2',)}, "no band 'B2'"),
        ({'dates': ()}, 'has the dates 1 and 2'),
        ({'dates': (0, 1)}, 'has the dates 1 and 2'),
        ({'split': 'all'}, "no split 'all'"),
    ],
)
def test_arguments_that_cannot_work_are_refused(root: Path, arguments: dict[str, object], words: str) -> None:
    with pytest.raises(SpecDMError, match=words):
        OSCDLandCover(root, patch_size=32, **arguments)  # type: ignore[arg-type]


def test_missing_data_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError):
        OSCDLandCover(tmp_path)
