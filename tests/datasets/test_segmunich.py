import shutil
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import rasterio
import torch
from matplotlib import pyplot as plt
from PIL import Image
from torch.utils.data import ConcatDataset
from torchgeo.datasets import DatasetNotFoundError, RGBBandsMissingError

from tests.data.segmunich.data import CODES, write_bands, write_label, write_segmunich
from torchgeo_specdm.datasets.segmunich import SegMunich, split_by_group
from torchgeo_specdm.errors import RasterError, SpecDMError
from torchgeo_specdm.sensors import SPECDM_BANDS
from torchgeo_specdm.spec import find_spec


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('segmunich')
    write_segmunich(folder)
    return folder


@pytest.fixture
def own(root: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return shutil.copytree(root, tmp_path / 'own')


@pytest.mark.parametrize('split', ['train', 'val'])
def test_samples_are_the_files(root: Path, split: str) -> None:
    dataset = SegMunich(root, split)
    assert len(dataset) == {'train': 12, 'val': 4}[split]
    for stem, sample in zip(dataset.stems, (dataset[i] for i in range(len(dataset))), strict=True):
        with rasterio.open(root / split / 'img' / f'{stem}.tif') as raster:
            assert np.array_equal(sample['image'].numpy(), raster.read())
        with Image.open(root / split / 'label' / f'{stem}.tif') as label:
            assert np.array_equal(np.array(CODES)[sample['mask'].numpy()], np.array(label))
        assert (sample['image'].dtype, sample['mask'].dtype) == (torch.float32, torch.int64)
        assert sample['image'].shape == dataset.spec.image_shape
        assert sample['mask'].shape == dataset.spec.mask_shape


def test_bands_are_chosen_and_reordered(root: Path) -> None:
    every, some = SegMunich(root), SegMunich(root, bands=('B12', 'B02', 'B08'))
    channels = [SPECDM_BANDS.index(band) for band in some.bands]
    assert torch.equal(some[3]['image'], every[3]['image'][channels])
    assert some.spec.bands == ('B12', 'B02', 'B08')
    assert some.spec.wavelengths == (2202.4, 492.4, 832.8)


def test_images_stored_in_pages_are_the_same(root: Path, tmp_path: Path) -> None:
    write_segmunich(tmp_path, paged=True)
    banded, paged = SegMunich(root), SegMunich(tmp_path)
    assert all(torch.equal(banded[i]['image'], paged[i]['image']) for i in range(len(banded)))


@pytest.mark.parametrize('share', [0.0, 0.4, 0.5, 1.0])
def test_drop_blank_keeps_patches_up_to_that_share(root: Path, share: float) -> None:
    every = SegMunich(root)
    background = {stem: float((every[i]['mask'] == 0).float().mean()) for i, stem in enumerate(every.stems)}
    assert SegMunich(root, drop_blank=share).stems == [stem for stem in every.stems if background[stem] <= share]


def test_near_duplicates_are_the_copies_of_a_place(root: Path) -> None:
    dataset = SegMunich(root)
    places = [int(stem.split('_')[0]) for stem in dataset.stems]
    assert dataset.near_duplicate_groups().tolist() == places
    # Without copies each place is on its own
    assert SegMunich(root, 'val').near_duplicate_groups().unique().numel() == 4


def test_split_keeps_a_group_on_one_side(root: Path) -> None:
    both = ConcatDataset([SegMunich(root, split) for split in SegMunich.splits])
    stems = [stem for part in both.datasets for stem in part.stems]
    train, val = split_by_group(both, val_share=0.25)
    assert sorted([*train.indices, *val.indices]) == list(range(16))
    places = [{stems[i].split('_')[0] for i in subset.indices} for subset in (train, val)]
    assert places[0].isdisjoint(places[1])
    assert len(val) == 4
    assert split_by_group(both, val_share=0.25)[1].indices == val.indices
    assert any(split_by_group(both, val_share=0.25, seed=seed)[1].indices != val.indices for seed in range(1, 5))
    assert find_spec(train) == both.datasets[0].spec
    with pytest.raises(SpecDMError, match='val_share'):
        split_by_group(both, val_share=1)


def test_plot(root: Path) -> None:
    dataset = SegMunich(root)
    sample = dataset[0]
    figure = dataset.plot(sample | {'prediction': sample['mask']}, suptitle='SegMunich')
    assert [axis.get_title() for axis in figure.axes] == ['Image', 'Mask', 'Prediction']
    plt.close(figure)
    with pytest.raises(RGBBandsMissingError):
        SegMunich(root, bands=('B08', 'B04')).plot(sample)


def test_classes_have_names_and_colours() -> None:
    assert len(SegMunich.classes) == len(set(SegMunich.colormap.values())) == 13


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'split': 'test'}, 'train, val'),
        ({'bands': ('B02', 'B10')}, 'B10'),
        ({'bands': ()}, 'B02'),
        ({'drop_blank': 1.5}, '1.5'),
        ({'checksum': True}, 'no checksum'),
    ],
)
def test_bad_arguments(root: Path, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(SpecDMError, match=message):
        SegMunich(root, **arguments)  # type: ignore[arg-type]


def test_missing_root(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match='Dataset not found'):
        SegMunich(tmp_path / 'nowhere')
    assert not (tmp_path / 'nowhere').exists()


@pytest.mark.parametrize('missing', ['train/label/{stem}.tif', 'train/img/{stem}.tif', 'dataset/train.txt'])
def test_half_extracted(own: Path, missing: str) -> None:
    path = own / missing.format(stem=SegMunich(own).stems[5])
    path.unlink()
    with pytest.raises(SpecDMError, match=f'{path}.*partly extracted'):
        SegMunich(own)


@pytest.mark.parametrize('kind', ['img', 'label'])
@pytest.mark.parametrize('share', [0, 0.1, 0.9])
def test_truncated_raster(own: Path, kind: str, share: float) -> None:
    dataset = SegMunich(own)
    path = own / 'train' / kind / f'{dataset.stems[0]}.tif'
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(RasterError, match=str(path)):
        dataset[0]
    assert dataset[1]['image'].isfinite().all()


@pytest.mark.parametrize(('kind', 'shape'), [('img', (10, 64, 128)), ('img', (4, 128, 128)), ('label', (1, 128, 64))])
def test_raster_of_wrong_size(own: Path, kind: str, shape: tuple[int, int, int]) -> None:
    dataset = SegMunich(own)
    path = own / 'train' / kind / f'{dataset.stems[0]}.tif'
    count, height, width = shape
    write_bands(path, np.zeros(shape, np.uint8))
    with pytest.raises(RasterError, match=f'{path} has {count} band.* of {height} x {width} px instead'):
        dataset[0]


def test_unknown_code(own: Path) -> None:
    dataset = SegMunich(own)
    path = own / 'train' / 'label' / f'{dataset.stems[0]}.tif'
    write_label(path, np.full((128, 128), 42))
    with pytest.raises(RasterError, match=f'{path} holds the unknown label code 42'):
        dataset[0]
    with pytest.raises(RasterError, match='42'):
        SegMunich(own, drop_blank=0.5)


def test_no_patch_left(own: Path) -> None:
    (own / 'dataset' / 'train.txt').write_text('\n')
    with pytest.raises(SpecDMError, match='empty'):
        SegMunich(own)


@pytest.mark.parametrize('nested', [False, True])
def test_download_and_extract(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nested: bool) -> None:
    top = tmp_path / 'packed' if nested else tmp_path / 'packed' / 'TUM_128'
    shutil.copytree(root, tmp_path / 'packed' / 'TUM_128')
    archive = Path(shutil.make_archive(str(tmp_path / 'TUM_128'), 'zip', top))
    asked = []

    def stand_in(repo_id: str, filename: str, *, repo_type: str, local_dir: Path) -> str:
        asked.append((repo_id, filename, repo_type))
        local_dir.mkdir(parents=True, exist_ok=True)
        return str(shutil.copy(archive, local_dir / filename))

    monkeypatch.setattr(huggingface_hub, 'hf_hub_download', stand_in)
    target = tmp_path / 'data'
    dataset = SegMunich(target, download=True)
    assert dataset.stems == SegMunich(root).stems
    assert torch.equal(dataset[0]['image'], SegMunich(root)[0]['image'])
    SegMunich(target, 'val', download=True)
    assert asked == [('Moonboy12138/SegMunich', 'TUM_128.zip', 'dataset')]


def test_failed_download_and_damaged_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> str:
        raise huggingface_hub.utils.LocalEntryNotFoundError('no network')

    monkeypatch.setattr(huggingface_hub, 'hf_hub_download', refuse)
    with pytest.raises(SpecDMError, match='no network'):
        SegMunich(tmp_path, download=True)
    (tmp_path / 'TUM_128.zip').write_bytes(b'PK\x03\x04 but no more')
    with pytest.raises(SpecDMError, match=r'TUM_128\.zip is damaged'):
        SegMunich(tmp_path)
