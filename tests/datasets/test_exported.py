"""What was exported is read again as it was."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.rasters import write_tif
from torchgeo_specdm.datasets import SpecDMSynthetic
from torchgeo_specdm.datasets.exported import ExportedPairs, sample_files
from torchgeo_specdm.errors import CheckpointError, RasterError, SpecDMError
from torchgeo_specdm.export import export


@pytest.fixture(params=['segmentation', 'change'])
def exported(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    checkpoint = request.getfixturevalue(f'tiny_{request.param}_checkpoint')
    export(checkpoint, tmp_path / 'out', 3, steps=2)
    return checkpoint, tmp_path / 'out'


def test_samples_are_those_of_the_generator(exported: tuple[Path, Path]) -> None:
    checkpoint, folder = exported
    dataset, source = ExportedPairs(folder), SpecDMSynthetic(checkpoint, 3, steps=2)
    assert len(dataset) == 3
    assert dataset.spec == source.spec
    for index in (0, 2, -1):
        for key, value in source[index].items():
            assert torch.equal(dataset[index][key], value), key
            assert dataset[index][key].dtype == value.dtype
    with pytest.raises(IndexError):
        dataset[3]


def test_an_incomplete_export_is_refused(exported: tuple[Path, Path]) -> None:
    _, folder = exported
    _, mask = sample_files(folder, 2, ExportedPairs(folder).spec)
    mask.unlink()
    with pytest.raises(SpecDMError, match='run the same'):
        ExportedPairs(folder)


def test_a_damaged_file_is_named(exported: tuple[Path, Path]) -> None:
    _, folder = exported
    dataset = ExportedPairs(folder)
    _, mask = sample_files(folder, 1, dataset.spec)
    mask.write_bytes(b'no raster')
    with pytest.raises(RasterError, match=mask.name):
        dataset[1]


def test_a_mask_of_another_code_or_size_is_named(exported: tuple[Path, Path]) -> None:
    _, folder = exported
    dataset = ExportedPairs(folder)
    _, mask = sample_files(folder, 1, dataset.spec)
    for shape, message in (((1, 16, 16), 'holds 9, which is no class'), ((1, 16, 15), r'\(1, 16, 15\) values')):
        write_tif(mask, np.full(shape, 9, np.uint8))
        with pytest.raises(RasterError, match=f'{mask.name} .*{message}'):
            dataset[1]


def test_another_folder_is_refused(tmp_path: Path, tiny_change_checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match='missing'):
        ExportedPairs(tmp_path)
    with pytest.raises(SpecDMError, match='does not describe'):
        ExportedPairs(tiny_change_checkpoint)
