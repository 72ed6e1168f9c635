"""MixedDataModule: it changes the train split and nothing else, and TorchGeo's own command line takes it."""

import multiprocessing
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.data import default_collate
from torchgeo.datamodules import NAIPChesapeakeDataModule
from torchgeo.datamodules.utils import collate_fn_detection
from torchgeo.main import main as torchgeo_main

from tests.conftest import strict_filter, tiny_pipeline, tiny_spec
from tests.fake import FakeDataModule, FakePairs, Level
from tests.forked import fork_producers
from torchgeo_specdm.datamodules import mixed as module
from torchgeo_specdm.datamodules.mixed import MixedDataModule
from torchgeo_specdm.datasets.generation import BlockGenerator
from torchgeo_specdm.datasets.order import MixedSampler
from torchgeo_specdm.datasets.synthetic import SpecDMSynthetic
from torchgeo_specdm.errors import CheckpointError, SpecDMError, SpecMismatchError
from torchgeo_specdm.pipeline import SpecDMPipeline

try:
    from torchgeo.tasks import ChangeDetection, SemanticSegmentation
except ModuleNotFoundError:
    from torchgeo.trainers import ChangeDetectionTask as ChangeDetection
    from torchgeo.trainers import SemanticSegmentationTask as SemanticSegmentation


@pytest.fixture
def checkpoint(tiny_segmentation_checkpoint: Path) -> Path:
    return tiny_segmentation_checkpoint


class Recording(FakeDataModule):
    """Says which of its hooks ran, and keeps state."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.calls: list[Any] = []
        self.count = 0

    def prepare_data(self) -> None:
        self.calls.append(('prepare_data', self.trainer is not None))

    def teardown(self, stage: str) -> None:
        self.calls.append(('teardown', stage))

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        self.calls.append('before')
        return batch

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        self.calls.append('transfer')
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        self.calls.append(('after', tuple(batch)))
        self.count += 1
        return super().on_after_batch_transfer(batch, dataloader_idx)

    def state_dict(self) -> dict[str, Any]:
        return {'count': self.count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.count = state_dict['count']

    def plot(self, *args: Any, **kwargs: Any) -> Any:
        self.calls.append('plot')


class Watching(SemanticSegmentation):  # type: ignore[misc]
    batches: list[dict[str, Any]] = []

    def training_step(self, batch: Any, *args: Any) -> Any:
        self.batches.append(batch)
        return super().training_step(batch, *args)


def trainer(folder: Path, **arguments: Any) -> Trainer:
    return Trainer(
        accelerator='cpu',
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{'max_epochs': 1, 'logger': TensorBoardLogger(folder)} | arguments,
    )


def segmentation(task: type = SemanticSegmentation) -> Any:
    return task(model='unet', backbone='resnet18', in_channels=3, task='multiclass', num_classes=4)


def test_a_task_sees_mixed_train_batches_and_reals_own_otherwise(checkpoint: Path, tmp_path: Path) -> None:
    real = Recording(length=6, batch_size=4)
    data = MixedDataModule(real, checkpoint, 1, steps=1)
    task = segmentation(Watching)
    Watching.batches.clear()
    run = trainer(tmp_path, limit_val_batches=1)
    run.fit(task, data)
    assert real.trainer is data.trainer is run
    assert [len(batch['image']) for batch in task.batches] == [4, 4, 4]
    assert 0 < sum(int(batch['synthetic'].sum()) for batch in task.batches) == 6
    values = torch.cat([batch['image'] for batch in task.batches])
    assert float(values.mean().abs()) < 3, 'normalised by the mean and std of the real data'
    expected = {('prepare_data', True), 'before', 'transfer', ('after', ('image', 'mask')), 'plot', ('teardown', 'fit')}
    assert expected <= set(real.calls)
    run.validate(task, data, verbose=False)
    run.test(task, data, verbose=False)

    saved = torch.load(next(tmp_path.rglob('*.ckpt')), weights_only=False)
    assert saved['MixedDataModule'] == {'count': saved['MixedDataModule']['count']}
    restored = MixedDataModule(Recording(), checkpoint, 1)
    trainer(tmp_path, max_steps=0).fit(segmentation(), restored, ckpt_path=next(tmp_path.rglob('*.ckpt')))
    assert restored.real.count >= saved['MixedDataModule']['count'] > 0


def test_a_change_task_trains(tiny_change_checkpoint: Path, tmp_path: Path) -> None:
    data = MixedDataModule(FakeDataModule('change', length=4), tiny_change_checkpoint, 1, steps=1)
    task = ChangeDetection(model='fcsiamdiff', backbone='resnet18', in_channels=3, task='binary', loss='bce')
    run = trainer(tmp_path)
    run.fit(task, data)
    assert run.global_step == 2


def test_what_it_does_not_own_is_reals(checkpoint: Path) -> None:
    real = FakeDataModule(batch_size=3, num_workers=0)
    data = MixedDataModule(real, checkpoint, 2)
    for name in ('mean', 'std', 'batch_size', 'num_workers', 'collate_fn', 'aug', 'dataset_class', 'val_dataset'):
        assert getattr(data, name) is getattr(real, name), name
    data.batch_size = 2
    assert real.batch_size == 2
    real.setup('validate')
    assert data.val_dataset is real.val_dataset
    assert data.val_dataloader().dataset is real.val_dataset
    data.setup('test')
    assert data.test_dataloader().dataset is real.test_dataset
    data.setup('fit')
    loader = data.train_dataloader()
    assert loader.collate_fn is default_collate
    assert (len(loader.dataset), loader.batch_size, loader.drop_last) == (24, 2, True)


@pytest.mark.parametrize(('length', 'ratio', 'batches'), [(2, 0, 1), (2, 1, 1), (3, 1, 1), (5, 1, 2)])
def test_a_real_set_smaller_than_the_batch_still_trains(
    checkpoint: Path, length: int, ratio: float, batches: int
) -> None:
    data = MixedDataModule(FakeDataModule(length=length, batch_size=5), checkpoint, ratio, steps=1)
    data.setup('fit')
    assert len(list(data.train_dataloader())) == len(data.train_dataloader()) == batches


def test_only_what_the_filter_keeps(tmp_path: Path) -> None:
    tiny_pipeline(tiny_spec('segmentation')).save_pretrained(tmp_path / 'checkpoint')
    arguments: dict[str, Any] = {'sample_batch_size': 4, 'steps': 1, 'device': 'cpu', 'keep': 'aligned'}
    with pytest.raises(SpecDMError, match='stage JudgeTask'):
        MixedDataModule(FakeDataModule(), tmp_path / 'checkpoint', 1, **arguments)
    folder = tmp_path / 'checkpoint' / 'filter'
    strict_filter(tiny_spec('segmentation'), folder).save(folder)
    data = MixedDataModule(FakeDataModule(), tmp_path / 'checkpoint', 1, **arguments)
    data.setup('fit')
    assert data.train_dataset is not None
    assert len(list(data.train_dataset)) == 16
    assert data.synthetic.filter_summary().served == 8


def test_synthetic_only(checkpoint: Path) -> None:
    data = MixedDataModule(FakeDataModule(), checkpoint, 1, steps=1, include_real=False)
    data.setup('fit')
    assert all(batch['synthetic'].all() for batch in data.train_dataloader())


def test_what_workers_read_is_generated_before(
    checkpoint: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = MixedDataModule(FakeDataModule(num_workers=2), checkpoint, 1, steps=1, device='cpu')
    data.setup('fit')
    assert len(list(own_cache.rglob('*.safetensors'))) == 1
    monkeypatch.setattr(SpecDMPipeline, 'sample', lambda *_, **__: pytest.fail('generated in a worker'))
    assert data.train_dataloader().num_workers == 2
    assert {bool(flag) for batch in data.train_dataloader() for flag in batch['synthetic']} == {False, True}
    # They read what is generated, so the device does not matter
    monkeypatch.setattr(module, 'resolve_device', lambda device: torch.device('cuda'))
    assert data.train_dataloader().num_workers == 2


def test_without_a_cache_workers_generate_on_the_cpu_only(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = MixedDataModule(FakeDataModule(num_workers=2), checkpoint, 1, steps=1, device='cpu', cache=None)
    data.setup('fit')
    assert data.train_dataloader().num_workers == 2
    assert {bool(flag) for batch in data.train_dataloader() for flag in batch['synthetic']} == {False, True}
    monkeypatch.setattr(module, 'resolve_device', lambda device: torch.device('cuda'))
    with pytest.warns(UserWarning, match='without workers'):
        assert data.train_dataloader().num_workers == 0


class Seeing(MixedDataModule):
    """Records the synthetic images of each epoch, in their order and before they are normalised."""

    seen: dict[int, list[torch.Tensor]]

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        if 'synthetic' in batch:
            self.seen.setdefault(self.trainer.current_epoch, []).extend(batch['image'][batch['synthetic']])
        return super().on_before_batch_transfer(batch, dataloader_idx)


@pytest.mark.parametrize(('fresh', 'workers'), [(True, 0), (False, 1)])
def test_a_resumed_training_goes_on_with_the_order_and_the_samples_of_its_epoch(
    fresh: bool, workers: int, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two epochs at once, and one after the other in two trainings: the same batches."""
    fork_producers(monkeypatch)

    def run(folder: Path, epochs: int, start: Path | None = None) -> dict[int, list[torch.Tensor]]:
        real = FakeDataModule(length=8, batch_size=4, num_workers=workers)
        data = Seeing(real, checkpoint, 1, steps=1, sample_batch_size=4, device='cpu', fresh=fresh)
        data.seen = {}
        settings = {'max_epochs': epochs, 'limit_val_batches': 0, 'logger': False}
        trainer(folder, **settings).fit(Level(), data, ckpt_path=start)
        return data.seen

    whole = run(tmp_path / 'whole', 2)
    assert sorted(whole) == [0, 1]
    run(tmp_path / 'parts', 1)
    resumed = run(tmp_path / 'parts', 2, next((tmp_path / 'parts').rglob('*.ckpt')))
    assert sorted(resumed) == [1]
    assert torch.equal(torch.stack(resumed[1]), torch.stack(whole[1]))
    assert not torch.equal(torch.stack(whole[0]), torch.stack(whole[1]))
    endless = SpecDMSynthetic(checkpoint, steps=1, batch_size=4, device='cpu')
    for epoch, images in whole.items() if fresh else ():
        expected = torch.stack([endless[8 * epoch + index]['image'] for index in range(8)])
        assert torch.equal(torch.stack(images), expected)


class Batches(MixedDataModule):
    """Records all batches of a training, before they are normalised."""

    seen: list[torch.Tensor]

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        if 'synthetic' in batch:
            self.seen.append(batch['image'])
        return super().on_before_batch_transfer(batch, dataloader_idx)


@pytest.mark.parametrize(('fresh', 'workers'), [(True, 0), (False, 0), (False, 1)])
def test_a_training_that_was_stopped_goes_on_where_it_was(
    fresh: bool, workers: int, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three epochs of four batches, whole and from some of their steps on: also after it was stopped before."""
    fork_producers(monkeypatch)

    def run(folder: Path, start: Path | None = None) -> torch.Tensor:
        real = FakeDataModule(length=8, batch_size=4, num_workers=workers)
        data = Batches(real, checkpoint, 1, steps=1, sample_batch_size=4, device='cpu', fresh=fresh)
        data.seen = []
        save = ModelCheckpoint(folder, '{step}', every_n_train_steps=1, save_top_k=-1)
        settings = {'max_epochs': 3, 'limit_val_batches': 0, 'logger': False}
        trainer(folder, callbacks=[save], **settings).fit(Level(), data, ckpt_path=start)
        return torch.stack(data.seen)

    whole = run(tmp_path / 'whole')
    assert len(whole) == 12
    # Within an epoch; at the ends of two in a row; within one and after the end of the one before
    for steps in ((6,), (4, 8), (2, 4, 5)):
        folder = tmp_path / 'whole'
        for step in steps:
            start, folder = folder / f'step={step}.ckpt', tmp_path / f'{steps} {step}'
            assert torch.equal(run(folder, start), whole[step:]), (steps, step)


def test_a_stream_is_not_generated_before(checkpoint: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SpecDMPipeline, 'sample', lambda *_, **__: pytest.fail('generated'))
    for asked in ({'stream': True}, {'fresh': True}):
        data = MixedDataModule(FakeDataModule(num_workers=2), checkpoint, 1, steps=1, device='cpu', **asked)
        data.setup('fit')
        data.setup('fit')
        assert len(data.synthetic) == 8
        loader = data.train_dataloader()
        assert loader.num_workers == 2
        assert isinstance(loader.sampler, MixedSampler)
        # Workers leave generating to a process of its own, so the device does not matter
        with monkeypatch.context() as patch:
            patch.setattr(module, 'resolve_device', lambda device: torch.device('cuda'))
            assert data.train_dataloader().num_workers == 2
    assert not list(own_cache.rglob('*.safetensors'))


def test_a_stream_without_workers_is_told_that_the_training_waits(checkpoint: Path) -> None:
    for asked, ratio, workers in (('stream', 1, 0), ('fresh', 1, 0), ('fresh', 0, 0), ('stream', 1, 1), (None, 1, 0)):
        told: dict[str, Any] = {asked: True} if asked else {}
        data = MixedDataModule(FakeDataModule(num_workers=workers), checkpoint, ratio, steps=1, device='cpu', **told)
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter('always')
            data.setup('fit')
        waits = any('waits for each synthetic sample' in str(one.message) for one in found)
        assert waits == bool(asked and ratio and not workers), (asked, ratio, workers)


def test_as_many_processes_generate_as_there_are_workers(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(SpecDMSynthetic, 'materialize', lambda *_, **told: asked.append(told) or True)
    MixedDataModule(FakeDataModule(num_workers=3), checkpoint, 1, device='cpu').setup('fit')
    assert asked == [{'processes': 3}]


def test_ranks_that_set_up_at_once_generate_each_block_once(
    checkpoint: Path, own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, make = tmp_path / 'made', BlockGenerator.__call__

    def record(self: BlockGenerator, number: int) -> Any:
        with log.open('a') as file:
            file.write(f'{number}\n')
        return make(self, number)

    def rank() -> None:
        real = FakeDataModule(length=8, num_workers=1)
        data = MixedDataModule(real, checkpoint, 2, steps=1, sample_batch_size=2, device='cpu')
        data.setup('fit')
        assert len(list(own_cache.rglob('*.safetensors'))) == 8

    monkeypatch.setattr(BlockGenerator, '__call__', record)
    ranks: list[Any] = [multiprocessing.get_context('fork').Process(target=rank) for _ in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join()
        assert process.exitcode == 0
    assert sorted(map(int, log.read_text().split())) == list(range(8))


def test_epochs_have_orders_of_their_own(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = MixedDataModule(FakeDataModule(), checkpoint, 1, steps=1)
    data.setup('fit')
    first, again = (list(data.train_dataloader().sampler) for _ in range(2))
    assert first == again
    assert sorted(first) == list(range(16))
    monkeypatch.setenv('PL_GLOBAL_SEED', '1')
    assert list(data.train_dataloader().sampler) != first


class Detection(FakeDataModule):
    def __init__(self) -> None:
        super().__init__()
        self.collate_fn = collate_fn_detection


@pytest.mark.parametrize(
    ('real', 'words'),
    [
        (NAIPChesapeakeDataModule, 'NAIPChesapeakeDataModule samples by location'),
        (Detection, 'Detection collates objects'),
    ],
)
def test_datamodules_that_cannot_be_mixed(checkpoint: Path, real: Any, words: str) -> None:
    with pytest.raises(SpecDMError, match=words):
        MixedDataModule(real(), checkpoint, 1)


def test_bad_input_is_refused_before_anything_is_prepared(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecDMError, match='ratio is -1'):
        MixedDataModule(FakeDataModule(), checkpoint, -1)
    with pytest.raises(CheckpointError):
        MixedDataModule(FakeDataModule(), tmp_path, 1)


@pytest.mark.parametrize('with_spec', [True, False])
def test_another_patch_size_is_refused(checkpoint: Path, with_spec: bool) -> None:
    data = MixedDataModule(FakeDataModule(patch_size=32, with_spec=with_spec), checkpoint, 1)
    with pytest.raises(SpecMismatchError, match='patch_size: 32 against 16'):
        data.setup('fit')


def test_samples_of_another_size_than_their_spec_are_refused(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def whole_scene(self: FakePairs, index: int) -> dict[str, torch.Tensor]:
        return {'image': torch.zeros(3, 40, 40), 'mask': torch.zeros(40, 40).long()}

    monkeypatch.setattr(FakePairs, '__getitem__', whole_scene)
    data = MixedDataModule(FakeDataModule(), checkpoint, 1)
    with pytest.raises(SpecMismatchError, match=r'\(3, 40, 40\), but synthetic ones are float32 \(3, 16, 16\)'):
        data.setup('fit')


def test_torchgeos_command_line(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / 'config.yaml'
    config.write_text(f"""
trainer:
  accelerator: cpu
  max_epochs: 1
  default_root_dir: {tmp_path}
  logger:
    class_path: lightning.pytorch.loggers.TensorBoardLogger
    init_args:
      save_dir: {tmp_path}
model:
  class_path: SemanticSegmentationTask
  init_args:
    model: unet
    backbone: resnet18
    in_channels: 3
    num_classes: {tiny_spec('segmentation').num_classes}
data:
  class_path: torchgeo_specdm.datamodules.mixed.MixedDataModule
  init_args:
    real:
      class_path: tests.fake.FakeDataModule
      init_args:
        batch_size: 4
        with_spec: false
    checkpoint: {checkpoint}
    ratio: 1.5
    steps: 1
    real_spec:
      name: fake
      task: segmentation
      bands: [B02, B03, B04]
      classes: [water, forest, town, field]
      patch_size: 16
""")
    monkeypatch.setattr(sys, 'argv', ['torchgeo'])
    torchgeo_main(['fit', '--config', str(config)])
    saved = torch.load(next(tmp_path.rglob('*.ckpt')), weights_only=False)
    assert saved['global_step'] == 5
    assert list(tmp_path.rglob('events.out.tfevents.*'))
