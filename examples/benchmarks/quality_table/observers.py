"""What is seen of a sample beyond what the package's observers see."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
from degenerate import BLOCK, blocks
from torch import Tensor

from torchgeo_specdm.evaluation.observation import Observer
from torchgeo_specdm.evaluation.reconstruction import ReconstructionObserver
from torchgeo_specdm.spec import DatasetSpec


class MaskObserver(Observer):
    """The masks themselves, and the pixels of each class."""

    name = 'masks'
    settings: Mapping[str, Any] = {}

    def __init__(self, spec: DatasetSpec) -> None:
        self.spec, self.settings = spec, {'classes': spec.num_classes}

    def observe(self, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
        pixels = torch.stack([(mask == value).sum((1, 2)) for value in range(self.spec.num_classes)], 1)
        return {'mask': mask.short(), 'pixels': pixels}


class DecodedObserver(Observer):
    """What another observer sees of samples that an autoencoder has encoded and decoded, image and mask."""

    settings: Mapping[str, Any] = {}

    def __init__(self, observer: Observer, reconstruction: ReconstructionObserver) -> None:
        self.observer, self.autoencoder = observer, reconstruction.autoencoder
        self.name = f'decoded/{observer.name}'
        self.settings = {**reconstruction.settings, **observer.settings}

    @torch.inference_mode()
    def observe(self, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
        device = self.autoencoder.offset.device
        raw = image if image.shape[1] > 1 else image[:, 0]
        made, logits = self.autoencoder.decode(self.autoencoder.encode(raw.to(device), mask.to(device)).mean)
        return self.observer.observe(made.reshape(image.shape).cpu(), logits.argmax(1).cpu())


class BlockMeans(torch.nn.Module):
    """Stands in for an autoencoder: images become block means, masks stay."""

    def __init__(self, spec: DatasetSpec) -> None:
        super().__init__()
        self.classes, self.config = spec.num_classes, {'block': BLOCK}
        self.register_buffer('offset', torch.zeros(()))

    def encode(self, image: Tensor, mask: Tensor) -> SimpleNamespace:
        return SimpleNamespace(mean=(image, mask))

    def decode(self, z: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        image, mask = z
        members = mask.view(len(mask), 1, *mask.shape[-2:]) == torch.arange(self.classes).view(-1, 1, 1)
        return blocks(image), 50.0 * members
