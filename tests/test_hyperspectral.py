"""Many bands: memory does not hold a dataset more than once, and wavelengths travel from files to files."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hyperspectral
import pytest
import torch
import yaml

from tests.conftest import tiny_spec
from tests.datasets.test_scene import write_envi
from tests.fake import FakeDataModule
from tests.rasters import scene, write_folder, write_netcdf, write_tif
from torchgeo_specdm.cli import main
from torchgeo_specdm.datamodules import LatentDataModule
from torchgeo_specdm.datasets.rasters import open_raster
from torchgeo_specdm.models import TwoStreamAutoencoder
from torchgeo_specdm.pipeline import SpecDMPipeline

HIGH_WATER = Path('/proc/self/clear_refs')
DECLARED = {'classes': ['soil', 'crop', 'water'], 'value_range': [0, 5000], 'name': 'valley', 'unit': 'counts'}


def memory(name: str) -> int:
    """A line of the kernel's account of this process, in bytes."""
    status = Path('/proc/self/status').read_text()
    return int(status.partition(f'{name}:')[2].split()[0]) * 1024


def peak_of(action: Callable[[], Any]) -> int:
    """How much more memory this process had at most while it acted, in bytes."""
    HIGH_WATER.write_text('5')
    before = memory('VmRSS')
    action()
    return memory('VmHWM') - before


@pytest.mark.skipif(not HIGH_WATER.exists(), reason='the kernel does not tell the most memory of a process')
def test_latents_are_in_memory_once_and_in_half_precision_beside() -> None:
    spec = tiny_spec('segmentation')
    autoencoder = TwoStreamAutoencoder(
        spec.task, spec.num_bands, spec.num_classes, latent_channels=(255, 1), width=(8, 8), depth=1
    )
    data = LatentDataModule(FakeDataModule(length=512, batch_size=32), autoencoder)
    peak = peak_of(lambda: data.setup('fit'))
    assert data.latents is not None
    z = data.latents.z
    assert z.shape == (512, 8, 256, 4, 4)
    assert z.dtype == torch.float16
    # 4 bytes a value while all are encoded, 2 for what stays; the rest is a batch
    assert peak < 1.25 * (4 + 2) * z.numel()


def write_scene(root: Path) -> dict[str, Any]:
    """An ENVI file, whose header has wavelengths, and what a configuration says of it."""
    write_envi(root, 'Micrometers')
    return {'class_path': 'SceneDataModule', 'init_args': {'image': 'image.img', 'mask': 'mask.npy'}}


def write_tiffs(root: Path) -> dict[str, Any]:
    """GeoTIFFs, whose tags have wavelengths, and what a configuration says of them."""
    write_folder(root, [(16, 32)] * 6)
    return {'class_path': 'FolderDataModule', 'init_args': {'image': 'image/*.tif', 'mask': 'mask/*.tif'}}


def write_cubes(root: Path) -> dict[str, Any]:
    """NetCDF files, whose bands are an axis of wavelengths, and what a configuration says of them."""
    for number in range(6):
        image, mask = scene(16, 32, seed=number)
        write_netcdf(root / f'{number}.nc', refl=image)
        write_tif(root / f'{number}.tif', mask[None])
    return {'class_path': 'FolderDataModule', 'init_args': {'image': '*.nc', 'mask': '*.tif'}}


@pytest.mark.parametrize(
    ('write', 'exclude', 'left'),
    [
        (write_scene, [[1340, 1460], [1790, 1960]], (450, 550, 650, 1600, 2200)),
        (write_tiffs, [[500, 600]], (490, 665, 842)),
        (write_cubes, [[600, 700]], (490, 560, 842)),
    ],
    ids=['ENVI', 'GeoTIFF', 'NetCDF'],
)
def test_wavelengths_travel_from_files_to_files(
    write: Callable[[Path], dict[str, Any]], exclude: list[list[int]], left: tuple[float, ...], tmp_path: Path
) -> None:
    """From headers and tags through YAML, which leaves bands out, to the checkpoint and what is exported of it."""
    data = write(tmp_path / 'data')
    data['init_args'] |= {'root': str(tmp_path / 'data'), 'patch_size': 16, 'declared': DECLARED | {'exclude': exclude}}
    models = {'AutoencoderTask': {'width': [8, 8], 'depth': 1}, 'LatentDiffusionTask': {'widths': [32], 'depth': 1}}
    trainer = {'max_steps': 1, 'accelerator': 'cpu', 'limit_val_batches': 2, 'default_root_dir': str(tmp_path)}
    config = {
        'trainer': trainer | {'logger': False, 'enable_progress_bar': False, 'enable_model_summary': False},
        'data': data,
        'stages': [{'model': {'class_path': name, 'init_args': given}} for name, given in models.items()],
    }
    (tmp_path / 'config.yaml').write_text(yaml.safe_dump(config))
    assert main(['fit', '--config', str(tmp_path / 'config.yaml')]) == 0
    checkpoint = tmp_path / 'checkpoint'
    assert SpecDMPipeline.read_spec(checkpoint).wavelengths == left
    to = ['--out', str(tmp_path / 'out')]
    assert main(['sample', str(checkpoint), '--n', '1', '--steps', '1', '--batch-size', '1', *to]) == 0
    written = open_raster(tmp_path / 'out' / 'image' / '000000.tif')
    assert written.wavelengths == left
    assert set(written.units) == {'counts'}
    assert json.loads((tmp_path / 'out' / 'specdm.json').read_text())['spec']['wavelengths'] == list(left)


def test_the_benchmark_prints_its_rows_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_here(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        """What another process would print, without the time that it takes to start."""
        capsys.readouterr()
        hyperspectral.main(command[2:])
        return subprocess.CompletedProcess(command, 0, capsys.readouterr().out)

    monkeypatch.setattr(subprocess, 'run', run_here)
    arguments = ['--fast', '--bands', '5', '--out', str(tmp_path)]
    hyperspectral.main(arguments)
    first = capsys.readouterr().out.splitlines()
    assert first[2].startswith('| 5 | ')
    assert all(float(cell) > 0 for cell in first[2].split('|')[2:-1])
    kept = json.loads((tmp_path / 'rows.json').read_text())
    assert list(kept) == ['5 autoencoder', '5 diffusion', '5 sampling']
    assert SpecDMPipeline.read_spec(tmp_path / '5-bands' / 'checkpoint').wavelengths == (400, 925, 1450, 1975, 2500)
    # Nothing is measured again
    monkeypatch.delattr(subprocess, 'run')
    hyperspectral.main(arguments)
    assert capsys.readouterr().out.splitlines() == first
