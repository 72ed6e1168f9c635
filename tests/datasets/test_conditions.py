"""Requests: class shares and given streams, what of them is deterministic and what is refused."""

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.conftest import tiny_pipeline, tiny_spec
from tests.fake import FakeDataModule
from torchgeo_specdm.cli import main
from torchgeo_specdm.commands import sample as command
from torchgeo_specdm.datamodules import MixedDataModule
from torchgeo_specdm.datasets import SpecDMSynthetic
from torchgeo_specdm.datasets.conditions import DRAWN, BalancedClasses, TrainClasses
from torchgeo_specdm.datasets.exported import ExportedPairs
from torchgeo_specdm.errors import SpecDMError, SpecMismatchError
from torchgeo_specdm.experiments.options import add_options
from torchgeo_specdm.functional.shares import share_quantiles, share_rows
from torchgeo_specdm.pipeline import GUIDANCE, SpecDMPipeline

SPEC = tiny_spec('segmentation')


class Real:
    """Three real samples."""

    spec = SPEC

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(index)
        mask = torch.randint(SPEC.num_classes, SPEC.mask_shape, generator=generator)
        image = (1500 + 300 * torch.randn(SPEC.image_shape, generator=generator)).round()
        return {'image': image, 'mask': mask}


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained generator that can be told everything."""
    shares = torch.rand(50, SPEC.num_classes, generator=torch.Generator().manual_seed(0))
    shares[:, 0] = 0
    shares = shares / shares.sum(1, keepdim=True)
    told = {'shares': share_quantiles(shares), 'share_rows': share_rows(shares)}
    pipeline = tiny_pipeline(SPEC, **told, clocks=2, num_classes=SPEC.num_classes, orientations=True)
    folder = tmp_path_factory.mktemp('told') / 'checkpoint'
    pipeline.save_pretrained(folder)
    return folder


def test_given_masks_are_kept_and_decide_the_image(checkpoint: Path) -> None:
    real = Real()
    dressed = SpecDMSynthetic(checkpoint, 5, steps=2, batch_size=2, given=real)
    for index in range(5):
        assert torch.equal(dressed[index]['mask'], real[index % 3]['mask'])
    free = SpecDMSynthetic(checkpoint, 5, steps=2, batch_size=2)
    assert not torch.equal(free[0]['image'], dressed[0]['image'])
    # The same mask in another place of the dataset has another image
    assert not torch.equal(dressed[0]['image'], dressed[3]['image'])


def test_given_images_are_kept_and_labelled(checkpoint: Path) -> None:
    real = Real()
    labelled = SpecDMSynthetic(checkpoint, 3, steps=2, given=real, given_streams=['image'])
    torch.testing.assert_close(labelled[1]['image'], real[1]['image'])


def test_conditions_never_depend_on_the_order_of_access(checkpoint: Path) -> None:
    settings: dict[str, Any] = {'steps': 2, 'batch_size': 2, 'classes': 'balanced', 'given': None}
    forth, back = SpecDMSynthetic(checkpoint, 6, **settings), SpecDMSynthetic(checkpoint, 6, **settings)
    ahead = [forth[index]['image'] for index in range(6)]
    behind = [back[index]['image'] for index in reversed(range(6))]
    assert all(torch.equal(a, b) for a, b in zip(ahead, reversed(behind), strict=True))


def test_balanced_classes_ask_for_each_class_equally_often(checkpoint: Path) -> None:
    pipeline = SpecDMPipeline.from_pretrained(checkpoint)
    assert pipeline.shares is not None
    asked = BalancedClasses().arguments(range(600), pipeline, seed=3)['shares']
    named = ~asked.isnan()
    assert (named.sum(1) == 1).all()
    # No train sample holds class 0, so none is asked for it
    assert not named[:, 0].any()
    counts = named.sum(0)[1:].float()
    assert counts.min() > 0.8 * counts.mean()
    for number in range(1, SPEC.num_classes):
        values = asked[:, number][named[:, number]]
        assert values.min() >= pipeline.shares[number, 0]
        assert values.max() <= pipeline.shares[number, -1]
        assert abs(float(values.median() - pipeline.shares[number, 10])) < 0.05


def same_shares(first: Tensor, second: Tensor) -> bool:
    return torch.equal(first.nan_to_num(-1), second.nan_to_num(-1))


def test_train_classes_ask_for_the_shares_of_train_samples(checkpoint: Path) -> None:
    pipeline = SpecDMPipeline.from_pretrained(checkpoint)
    assert pipeline.share_rows is not None
    asked = TrainClasses().arguments(range(2000), pipeline, seed=3)['shares']
    assert len(asked[:, 1:].unique(dim=0)) == len(pipeline.share_rows) == 50
    for start in range(0, 2000, 50):
        turn = asked[start : start + 50]
        assert sorted(turn[:, 1:].tolist()) == sorted(pipeline.share_rows[:, 1:].tolist())
    assert not same_shares(asked[:50], asked[50:100])
    assert same_shares(asked[70:], TrainClasses().arguments(range(70, 2000), pipeline, seed=3)['shares'])
    assert not same_shares(asked, TrainClasses().arguments(range(2000), pipeline, seed=4)['shares'])


@pytest.mark.parametrize(('told', 'guidance'), [(None, 1.0), (1.5, 1.5)])
def test_train_classes_are_not_exaggerated_unless_told(checkpoint: Path, told: float | None, guidance: float) -> None:
    dataset = SpecDMSynthetic(checkpoint, 2, steps=2, batch_size=2, classes='train', guidance=told)
    assert dataset.settings.guidance == guidance
    assert SpecDMSynthetic(checkpoint, 2, classes='balanced').settings.guidance == GUIDANCE
    pipeline = SpecDMPipeline.from_pretrained(checkpoint)
    asked = TrainClasses().arguments([0, 1], pipeline, seed=0)['shares']
    made = pipeline.sample([0, 1], steps=2, shares=asked, guidance=guidance)
    torch.testing.assert_close(dataset[1]['image'], made['image'][1], atol=1.0, rtol=0)


def test_train_classes_leave_free_what_no_row_holds(checkpoint: Path) -> None:
    pipeline = SpecDMPipeline.from_pretrained(checkpoint)
    asked = TrainClasses().arguments(range(60), pipeline, seed=0)['shares']
    # No train sample holds class 0
    assert asked[:, 0].isnan().all()
    assert not asked[:, 1:].isnan().any()
    pipeline.share_rows = torch.zeros(0, SPEC.num_classes)
    with pytest.raises(SpecDMError, match='does not know'):
        TrainClasses().arguments([0], pipeline, seed=0)


@pytest.mark.parametrize('beside', [{'agreement': 2.0}, {'given': Real()}])
def test_train_classes_beside_other_requests(checkpoint: Path, beside: dict[str, Any]) -> None:
    with_absent = SpecDMPipeline.from_pretrained(checkpoint)
    with_absent.absent = True
    folder = checkpoint.parent / 'absent'
    with_absent.save_pretrained(folder)
    dataset = SpecDMSynthetic(folder, 4, steps=2, batch_size=2, classes='train', **beside)
    assert dataset.settings.guidance == TrainClasses.guidance
    assert dataset[3]['image'].isfinite().all()


def test_rows_of_shares_stand_for_all_samples() -> None:
    generator = torch.Generator().manual_seed(0)
    # Few samples hold most of a class
    change = torch.rand(5000, generator=generator) ** 8
    shares = torch.stack([1 - change, change], 1)
    shares[::10] = 0
    rows, labelled = share_rows(shares), shares[shares.sum(1) > 0]
    assert rows.shape == (256, 2)
    torch.testing.assert_close(rows.mean(0), labelled.mean(0), rtol=0.01, atol=0)
    assert {tuple(row) for row in rows.tolist()} <= {tuple(row) for row in shares.tolist()}
    few = labelled[:3]
    assert sorted(share_rows(few).tolist()) == sorted(few.tolist())
    assert share_rows(torch.zeros(4, 2)).shape == (0, 2)


def test_an_old_checkpoint_says_that_it_does_not_know_its_train_shares(tmp_path: Path) -> None:
    pipeline = tiny_pipeline(SPEC, shares=torch.rand(SPEC.num_classes, 21), clocks=2, num_classes=SPEC.num_classes)
    pipeline.save_pretrained(tmp_path / 'old')
    with pytest.raises(SpecDMError, match='train its denoiser again'):
        SpecDMSynthetic(tmp_path / 'old', 2, classes='train')


def test_the_command_line_takes_what_the_dataset_takes() -> None:
    assert tuple(DRAWN) == command.DRAWN
    parser = argparse.ArgumentParser()
    add_options(parser)
    choices = next(action.choices for action in parser._actions if action.dest == 'classes')
    assert choices == tuple(DRAWN)


def test_shares_by_name_reach_the_sampler(checkpoint: Path) -> None:
    name = SPEC.classes[1]
    dataset = SpecDMSynthetic(checkpoint, 2, steps=2, batch_size=2, classes={name: 0.4}, guidance=1.0)
    asked = torch.full((2, SPEC.num_classes), torch.nan)
    asked[:, 1] = 0.4
    made = SpecDMPipeline.from_pretrained(checkpoint).sample([0, 1], steps=2, shares=asked, guidance=1.0)
    torch.testing.assert_close(dataset[1]['image'], made['image'][1], atol=1.0, rtol=0)


@pytest.mark.parametrize('classes', [{'water': 0.4}, {'bare': 0.3, 'dense vegetation': 0.5}])
def test_masks_have_the_shares_that_were_asked_for(classes: dict[str, float]) -> None:
    dataset = SpecDMSynthetic('oscd-landcover', 3, steps=6, batch_size=3, classes=classes, device='cpu', cache=None)
    for name, share in classes.items():
        number = dataset.spec.classes.index(name)
        for index in range(3):
            assert abs(float((dataset[index]['mask'] == number).float().mean()) - share) < 0.03


def test_given_masks_are_not_steered(checkpoint: Path) -> None:
    pipeline, given = SpecDMPipeline.from_pretrained(checkpoint), Real()[0]['mask'][None]
    asked = torch.full((1, SPEC.num_classes), 1 / SPEC.num_classes)
    made = pipeline.sample([0], steps=2, shares=asked, given={'mask': given})
    assert torch.equal(made['mask'], given)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'classes': {'lava': 0.5}}, "no class 'lava'"),
        ({'classes': {SPEC.classes[0]: 1.5}}, 'between 0 and 1'),
        ({'classes': 'rare'}, 'balanced'),
        ({'given': Real(), 'given_streams': ['image2']}, 'image, mask'),
        ({'given': []}, 'is empty'),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_loaded(
    checkpoint: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecDMError, match=message):
        SpecDMSynthetic(checkpoint, 2, **settings)


def test_given_samples_of_other_data_are_refused(checkpoint: Path) -> None:
    class Other(Real):
        spec = tiny_spec('change')

    with pytest.raises(SpecMismatchError):
        SpecDMSynthetic(checkpoint, 2, given=Other())  # type: ignore[arg-type]


def test_a_generator_that_was_told_nothing_refuses(tiny_segmentation_checkpoint: Path) -> None:
    with pytest.raises(SpecDMError, match='class_control'):
        SpecDMSynthetic(tiny_segmentation_checkpoint, 2, classes='balanced')
    with pytest.raises(SpecDMError, match='takes nothing'):
        SpecDMSynthetic(tiny_segmentation_checkpoint, 2, given=Real())  # type: ignore[arg-type]
    pipeline = SpecDMPipeline.from_pretrained(tiny_segmentation_checkpoint)
    with pytest.raises(SpecDMError, match='one clock'):
        pipeline.sample([0], steps=1, given={'mask': Real()[0]['mask'][None]})
    with pytest.raises(SpecDMError, match='class_control'):
        pipeline.sample([0], steps=1, shares=torch.zeros(1, SPEC.num_classes))


def test_the_command_line_asks_for_the_same(checkpoint: Path, tmp_path: Path) -> None:
    name = SPEC.classes[1]
    arguments = ['sample', str(checkpoint), '--n', '2', '--steps', '2', '--batch-size', '2', '--device', 'cpu']
    request = ['--classes', f'{name}=0.4', '--guidance', '1.2']
    assert main([*arguments, '--out', str(tmp_path / 'a'), *request]) == 0
    dataset = SpecDMSynthetic(checkpoint, 2, steps=2, batch_size=2, classes={name: 0.4}, guidance=1.2)
    found = ExportedPairs(tmp_path / 'a')
    for index in range(2):
        assert torch.equal(found[index]['image'], dataset[index]['image'])
        assert torch.equal(found[index]['mask'], dataset[index]['mask'])
    # Other requests do not go into the same folder
    assert main([*arguments, '--out', str(tmp_path / 'a'), '--classes', 'balanced']) == 2
    assert main([*arguments, '--out', str(tmp_path / 'b'), '--classes', 'balanced']) == 0


def test_a_request_that_is_no_share_is_one_line(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['sample', str(checkpoint), '--n', '1', '--out', 'nowhere', '--classes', 'lots']) == 2
    assert "NAME=SHARE (water=0.4), not 'lots'" in capsys.readouterr().err


def test_sample_takes_given_streams_of_a_real_split_and_resumes(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``specdm sample --given mask`` dresses the masks of the val split, in their order."""
    config = tmp_path / 'data.yaml'
    config.write_text('data: {class_path: tests.fake.FakeDataModule, init_args: {length: 3}}')
    arguments = ['--n', '5', '--steps', '1', '--batch-size', '2', '--given', 'mask', '--data', str(config)]
    out = ['--split', 'val', '--out', str(tmp_path / 'dressed')]
    for _ in range(2):
        assert main(['sample', str(checkpoint), *arguments, *out]) == 0
    data = FakeDataModule(length=3)
    data.setup('fit')
    made = ExportedPairs(tmp_path / 'dressed')
    assert len(made) == 5
    for index, sample in enumerate(made):
        assert torch.equal(sample['mask'], data.val_dataset[index % 3]['mask'])
    # Other masks do not belong into the same folder
    assert main(['sample', str(checkpoint), *arguments, '--split', 'train', *out[2:]]) == 2
    assert 'made with another given' in capsys.readouterr().err
    assert main(['sample', str(checkpoint), '--n', '1', '--out', str(tmp_path / 'x'), '--data', str(config)]) == 2
    assert '--given, which is missing' in capsys.readouterr().err


def test_a_mixed_datamodule_asks_for_classes(checkpoint: Path) -> None:
    data = MixedDataModule(FakeDataModule(length=4), checkpoint, 1, steps=1, classes={'forest': 0.5}, guidance=1.0)
    data.setup('fit')
    asked = SpecDMSynthetic(checkpoint, 4, steps=1, classes={'forest': 0.5}, guidance=1.0)
    assert data.train_dataset is not None
    found = [sample for sample in data.train_dataset if sample['synthetic']]
    assert all(any(torch.equal(one['image'], sample['image']) for one in asked) for sample in found)
    assert len(found) == 4


def test_agreement_needs_a_generator_that_knows_each_side_alone(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecDMError, match='never learned images without masks'):
        SpecDMSynthetic(checkpoint, 2, agreement=1.5)
    pipeline = SpecDMPipeline.from_pretrained(checkpoint)
    with pytest.raises(SpecDMError, match='fit it with absent'):
        pipeline.sample([0], steps=1, agreement=1.5)
    pipeline.absent = True
    pipeline.save_pretrained(tmp_path / 'able')
    plain, agreeing = (SpecDMSynthetic(tmp_path / 'able', 2, steps=2, agreement=scale) for scale in (1.0, 1.5))
    assert plain.settings.key != agreeing.settings.key
    expected = SpecDMPipeline.from_pretrained(tmp_path / 'able').sample(range(8), steps=2, agreement=1.5)
    torch.testing.assert_close(agreeing[1]['image'], expected['image'][1], atol=2, rtol=0)
    assert not torch.equal(plain[1]['image'], agreeing[1]['image'])
