"""Every model takes any bands and sizes, learns with all its weights, and has the size and shapes that it states."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torchgeo_specdm.downstream import DOWNSTREAM, make_model
from torchgeo_specdm.downstream.base import DenseModel, SiameseModel
from torchgeo_specdm.downstream.mix_transformer import EfficientAttention
from torchgeo_specdm.downstream.pfsegnet import PFSegNet
from torchgeo_specdm.downstream.pointflow import balanced_boundary_loss, boundaries, flow
from torchgeo_specdm.downstream.siamcrnn import ConvLSTM
from torchgeo_specdm.errors import SpecDMError

DOCS = Path(__file__).parents[2] / 'docs' / 'downstream.md'
BANDS = 5
# A small form of each
SMALL: list[tuple[str, dict[str, Any]]] = [
    ('segformer', {'backbone': 'mit_b0'}),
    ('pfsegnet', {'backbone': 'resnet18'}),
    ('siamcrnn', {'backbone': 'resnet18'}),
    ('changeformer', {'version': 'v3'}),
    ('changeformer', {'version': 'v6'}),
    ('unet', {'backbone': 'resnet18'}),
    ('unet', {'backbone': 'resnet18', 'task': 'change'}),
    ('deeplabv3+', {'backbone': 'resnet18'}),
    ('upernet', {'backbone': 'resnet18'}),
    ('fcsiamdiff', {'backbone': 'resnet18'}),
    ('fcsiamconc', {'backbone': 'resnet18'}),
    ('changevit', {'backbone': 'vit_tiny_patch16_224'}),
]
NAMES = [' '.join([name, *map(str, options.values())]) for name, options in SMALL]
SIAMESE = [(name, options) for name, options in SMALL if name in ('siamcrnn', 'changeformer')]


@pytest.fixture(scope='module', params=SMALL, ids=NAMES)
def model(request: pytest.FixtureRequest) -> DenseModel:
    name, options = request.param
    torch.manual_seed(0)
    return make_model(name, BANDS, 3, **options)


def images(model: DenseModel, height: int, width: int, batch: int = 2) -> Tensor:
    dates = (2,) if model.num_dates == 2 else ()
    return torch.randn(batch, *dates, BANDS, height, width, generator=torch.Generator().manual_seed(0))


def test_all_names_are_tested_and_documented() -> None:
    assert {name for name, _ in SMALL} == set(DOWNSTREAM)
    assert all(f'| `{name}` |' in DOCS.read_text(encoding='utf-8') for name in DOWNSTREAM)


def test_every_weight_learns_on_images_of_odd_size(model: DenseModel) -> None:
    model.train().zero_grad()
    logits = model(images(model, 70, 54))
    assert logits.shape == (2, 3, 70, 54)
    # Drawn, as the boundary of a mask of one class is empty
    mask = torch.randint(3, (2, 70, 54), generator=torch.Generator().manual_seed(1))
    loss = nn.functional.cross_entropy(logits, mask)
    if (extra := model.extra_loss(mask)) is not None:
        loss = loss + extra
    loss.backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not still


def test_padding_repeats_the_border_and_is_cropped(model: DenseModel) -> None:
    model.eval()
    image = images(model, 32, 32, batch=1)
    with torch.no_grad():
        whole = model(image)
        torch.testing.assert_close(whole, model.logits(image))
        smaller = image[..., :20, :27]
        rows, columns = torch.arange(32).clamp_max(19), torch.arange(32).clamp_max(26)
        padded = smaller[..., rows, :][..., columns]
        torch.testing.assert_close(model(smaller), model(padded)[..., :20, :27])
    if model.num_dates == 2:
        with torch.no_grad():
            torch.testing.assert_close(model(image.flatten(1, 2)), whole)


def test_half_precision(model: DenseModel) -> None:
    model.train().zero_grad()
    # CPUs are slow at it: one image, whose coarsest features of 1 x 1 px have no variance of their own
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    image = images(model, 32, 32, batch=1)
    with torch.autocast('cpu', torch.bfloat16):
        logits = model(image)
        mask = torch.randint(3, (1, 32, 32), generator=torch.Generator().manual_seed(1))
        loss = nn.functional.cross_entropy(logits, mask)
        if (extra := model.extra_loss(mask)) is not None:
            loss = loss + extra
    loss.backward()
    assert logits.isfinite().all()
    assert loss.isfinite()


@pytest.mark.parametrize(
    ('name', 'classes', 'options', 'published'),
    [
        # With the 150 classes of ADE20K
        ('segformer', 150, {'backbone': 'mit_b0'}, 3.8),
        ('segformer', 150, {'backbone': 'mit_b5'}, 84.7),
        ('pfsegnet', 16, {'backbone': 'resnet50'}, None),
        ('siamcrnn', 2, {'backbone': 'resnet18'}, None),
        ('siamcrnn', 2, {'backbone': 'resnet34'}, None),
        ('siamcrnn', 2, {'backbone': 'resnet50'}, None),
        ('siamcrnn', 2, {'backbone': 'resnet101'}, 63.44),
        ('changeformer', 2, {'version': 'v3'}, 32.66),
        ('changeformer', 2, {'version': 'v6'}, 41.03),
    ],
)
def test_published_numbers_of_parameters(
    name: str, classes: int, options: dict[str, Any], published: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # segmentation-models-pytorch reads numbers of a linspace, which the meta device has not
    linspace = torch.linspace
    monkeypatch.setattr(torch, 'linspace', lambda *args: linspace(*args, device='cpu'))
    with torch.device('meta'):
        model = make_model(name, 3, classes, **options)
    count = sum(p.numel() for p in model.parameters()) / 1e6
    assert published is None or count == pytest.approx(published, rel=0.02)
    (option,) = options.values()
    row = f'| `{name}` | `{option}` | {classes} | {count:.2f} | {published or "-"} |'
    assert row in DOCS.read_text(encoding='utf-8')


@pytest.mark.parametrize(
    ('name', 'options', 'channels'),
    [
        ('changeformer', {'version': 'v3'}, (64, 128, 320, 512)),
        ('changeformer', {'version': 'v6'}, (64, 128, 320, 512)),
        ('siamcrnn', {'backbone': 'resnet18'}, (64, 128, 256, 512)),
        ('siamcrnn', {'backbone': 'resnet101'}, (256, 512, 1024, 2048)),
    ],
)
def test_stages_have_the_shapes_they_state(name: str, options: dict[str, Any], channels: tuple[int, ...]) -> None:
    with torch.device('meta'):
        model = make_model(name, 10, 2, **options).eval()
        assert isinstance(model, SiameseModel)
        image = torch.randn(1, 2, 10, 128, 96)
        found = [tuple(scale.shape) for scale in model.features(image)]
        assert found == [(1, 2, c, 128 // 2**i, 96 // 2**i) for i, c in enumerate(channels, start=2)]
        step = 4 if name == 'siamcrnn' else 1
        assert model.decoder(model.features(image)).shape == (1, 2, 128 // step, 96 // step)


def test_stages_of_pfsegnet() -> None:
    with torch.device('meta'):
        model = PFSegNet(10, 13).eval()
        features = model.encoder(torch.randn(1, 10, 128, 96))
        found = [tuple(scale.shape) for scale in features]
        assert found == [(1, 64 * 2**i, 128 // 2**i, 96 // 2**i) for i in range(2, 6)]
        logits, edges = model.decoder(features)
        assert logits.shape == (1, 13, 32, 24)
        assert [tuple(edge.shape) for edge in edges] == [(1, 1, 128 // s, 96 // s) for s in (32, 16, 8)]


@pytest.mark.parametrize(('name', 'options'), SIAMESE)
def test_both_dates_share_the_weights(name: str, options: dict[str, Any]) -> None:
    """Swapped dates have swapped features, and teach the encoder the same."""
    torch.manual_seed(0)
    model = make_model(name, BANDS, 1, **options).eval()
    assert isinstance(model, SiameseModel)
    image = images(model, 32, 32, batch=1)
    first = next(model.encoder.parameters())
    gradients = []
    for date, given in ((0, image), (1, image.flip(1))):
        features = model.features(given)
        (gradient,) = torch.autograd.grad(sum(scale[:, date].square().sum() for scale in features), first)  # type: ignore[arg-type]
        gradients.append(gradient)
    torch.testing.assert_close(*gradients)
    for scale, swapped in zip(model.features(image), model.features(image.flip(1)), strict=True):
        torch.testing.assert_close(scale, swapped.flip(1))
    symmetric = options.get('version') == 'v3'
    with torch.no_grad():
        assert torch.allclose(model(image), model(image.flip(1)), atol=1e-5) == symmetric


def test_convolutional_lstm_is_an_lstm_at_each_pixel() -> None:
    """Of one pixel, all that a kernel sees is its centre."""
    torch.manual_seed(0)
    mine, theirs = ConvLSTM(4, 6), nn.LSTM(4, 6, batch_first=True)
    i, f, o, g = (part[:, :, 1, 1] for part in mine.gates.weight.detach().chunk(4))
    kernel = torch.cat([i, f, g, o])
    i, f, o, g = mine.gates.bias.detach().chunk(4)
    theirs.load_state_dict(
        {
            'weight_ih_l0': kernel[:, :4],
            'weight_hh_l0': kernel[:, 4:],
            'bias_ih_l0': torch.cat([i, f, g, o]),
            'bias_hh_l0': torch.zeros(24),
        }
    )
    sequence = torch.randn(3, 2, 4)
    torch.testing.assert_close(mine(sequence[..., None, None])[..., 0, 0], theirs(sequence)[0][:, -1])


def test_attention_without_reduction_is_multihead_attention() -> None:
    torch.manual_seed(0)
    mine, theirs = EfficientAttention(8, 2, 1, 0.0), nn.MultiheadAttention(8, 2, batch_first=True)
    output = mine.output[0]
    assert isinstance(output, nn.Linear)
    theirs.load_state_dict(
        {
            'in_proj_weight': torch.cat([mine.query.weight, mine.key_value.weight]),
            'in_proj_bias': torch.cat([mine.query.bias, mine.key_value.bias]),
            'out_proj.weight': output.weight,
            'out_proj.bias': output.bias,
        }
    )
    x = torch.randn(2, 6, 8)
    torch.testing.assert_close(mine(x, (2, 3)), theirs(x, x, x)[0])


def test_semantics_flow_to_the_points_alone() -> None:
    """Where all coarse features are alike, their mean is known."""
    fine = torch.randn(2, 3, 4, 6)
    coarse = torch.full((2, 3, 2, 3), 5.0)
    points = torch.tensor([[1, 5], [0, 3]])
    moved = flow(coarse, fine, points, fine) - fine
    expected = torch.zeros(2, 4, 6)
    # Point y w + x of the coarse map is the pixel (2y, 2x) of the fine one
    expected[0, 0, 2] = expected[0, 2, 4] = expected[1, 0, 0] = expected[1, 2, 0] = 5
    torch.testing.assert_close(moved, fine + expected.unsqueeze(1) - fine)


def test_boundaries_and_their_loss() -> None:
    mask = torch.zeros(1, 6, 6, dtype=torch.long)
    mask[:, :, 3:] = 7
    found = boundaries(mask)
    expected = torch.zeros(1, 6, 6, dtype=torch.bool)
    expected[:, :, 2:4] = True
    assert torch.equal(found, expected)
    right = torch.where(expected, 20.0, -20.0).unsqueeze(1)
    assert balanced_boundary_loss(right, mask) < 1e-6
    # Without knowledge both sides weigh the same: 2 q (1 - q) log 2
    assert float(balanced_boundary_loss(0 * right, mask)) == pytest.approx(2 * (1 / 3) * (2 / 3) * 0.6931, rel=1e-3)


@pytest.mark.parametrize(
    ('name', 'options', 'words'),
    [
        ('segfromer', {}, "no model 'segfromer'; choose from segformer"),
        ('siamcrnn', {'version': 'v3'}, "siamcrnn has no option 'version'; it has backbone, weights"),
        ('siamcrnn', {'task': 'segmentation'}, 'choose from segformer, pfsegnet, unet'),
        ('siamcrnn', {'backbone': 'resnet19'}, 'must be one of resnet18, resnet34'),
        ('segformer', {'backbone': 'resnet18'}, 'must be one of mit_b0'),
        ('siamcrnn', {'weights': 'noisy'}, "must be 'imagenet' or None"),
        ('changeformer', {'version': 'v5'}, 'must be v3 or v6'),
    ],
)
def test_what_cannot_be_made_is_refused(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecDMError, match=words):
        make_model(name, 3, 2, **options)


def test_other_bands_are_refused() -> None:
    with torch.device('meta'):
        model = make_model('siamcrnn', 3, 2)
        with pytest.raises(SpecDMError, match=r'takes 2 date\(s\) of 3 bands, but an image is \(2, 4, 32, 32\)'):
            model(torch.zeros(1, 2, 4, 32, 32))
