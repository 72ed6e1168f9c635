"""What is seen of a sample beyond what the package's observers see."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
from degenerate import BLOCK, blocks
from torch import Tensor

from torchgeo_specdm.comparison import count_pixels
from torchgeo_specdm.evaluation.fidelity import FeatureObserver
from torchgeo_specdm.evaluation.observation import Observer
from torchgeo_specdm.evaluation.reconstruction import ReconstructionObserver
from torchgeo_specdm.functional.landcover import land_cover
from torchgeo_specdm.spec import DatasetSpec


class ImageObserver(FeatureObserver):
    """Features of images alone: of masks the table says what it can say exactly, and a network takes half its time."""

    @property
    def settings(self) -> dict[str, Any]:
        return {**super().settings, 'masks': None}

    def observe(self, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
        return {f'date{date + 1}': self.extractor.images(image[:, date]) for date in range(image.shape[1])}


class RuleObserver(Observer):
    """Pixels of each class where the rule of the land cover, applied to the image, agrees with the mask."""

    name = 'rule'
    settings: Mapping[str, Any] = {}

    def __init__(self, spec: DatasetSpec) -> None:
        self.spec, self.settings = spec, {'rule': 'land cover', 'scale': spec.scale}

    def observe(self, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
        found = land_cover(image[:, 0] / self.spec.scale, self.spec.bands)
        return count_pixels(found, mask, self.spec.num_classes)._asdict()


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
