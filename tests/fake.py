"""A dataset of random but learnable pairs, as a third party would write one, with a spec or without; small tasks."""

from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torchgeo.datamodules import NonGeoDataModule
from torchgeo.datasets import NonGeoDataset

from torchgeo_specdm.spec import DatasetSpec


class FakePairs(NonGeoDataset):
    """Squares on a noisy ground: the mask is where the square is (where it changed)."""

    def __init__(
        self,
        spec: DatasetSpec,
        split: str = 'train',
        length: int = 8,
        transforms: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None,
        with_spec: bool = True,
    ) -> None:
        self._spec, self.split, self.length, self.transforms = spec, split, length, transforms
        if with_spec:
            self.spec = spec

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < self.length:
            raise IndexError(index)
        spec = self._spec
        generator = torch.Generator().manual_seed(1000 * ['train', 'val', 'test'].index(self.split) + index)
        image = 1500 + 100 * torch.randn(spec.image_shape, generator=generator)
        mask = torch.zeros(spec.mask_shape, dtype=torch.long)
        size = spec.patch_size
        top, left = (int(v) for v in torch.randint(size // 2, (2,), generator=generator))
        label = int(torch.randint(1, spec.num_classes, (), generator=generator))
        window = (..., slice(top, top + size // 2), slice(left, left + size // 2))
        mask[window] = label
        # What changed is there on the second date alone
        (image if spec.num_dates == 1 else image[1])[window] += 400 * label
        sample: dict[str, Any] = {'image': image.round(), 'mask': mask}
        return self.transforms(sample) if self.transforms else sample


class FakeDataModule(NonGeoDataModule):
    """Train, val and test splits of :class:`FakePairs`."""

    mean = torch.tensor(1500.0)
    std = torch.tensor(500.0)

    def __init__(
        self,
        task: str = 'segmentation',
        length: int = 8,
        with_spec: bool = True,
        batch_size: int = 4,
        num_workers: int = 0,
        patch_size: int = 16,
    ) -> None:
        import dataclasses

        from tests.conftest import tiny_spec

        spec = dataclasses.replace(tiny_spec(task), patch_size=patch_size)
        super().__init__(FakePairs, batch_size, num_workers, spec=spec, length=length, with_spec=with_spec)
        if task == 'change':
            # TorchGeo's change datamodules normalise with a time axis; the plain mean suffices here
            self.aug = lambda batch: batch | {'image': (batch['image'] - self.mean) / self.std}


class Level(LightningModule):
    """The smallest task: one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.level = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return (batch['image'].mean() - self.level) ** 2

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.1)


class ThreeKeys(NonGeoDataset):
    """A change dataset that knows nothing of this package: no split, a key for each date, the mask with axes of one."""

    def __init__(self, root: str = '.', length: int = 8, size: tuple[int, int] = (16, 24)) -> None:
        self.length, self.size = length, size

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        before, after = (
            torch.rand(3, *self.size, generator=torch.Generator().manual_seed(2 * index + d)) for d in (0, 1)
        )
        return {'image1': before, 'image2': after, 'mask': (before[:1] > after[:1]).byte()[None], 'name': str(index)}
