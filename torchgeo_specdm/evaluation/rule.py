"""Does a mask say what the rule of the land cover says of its image? Exact, where labels follow the rule."""

from typing import Any

from torch import Tensor

from torchgeo_specdm.comparison import count_pixels
from torchgeo_specdm.evaluation.observation import Observer
from torchgeo_specdm.functional.landcover import LAND_COVER_BANDS, LAND_COVER_CLASSES, land_cover
from torchgeo_specdm.spec import DatasetSpec


def is_land_cover(spec: DatasetSpec) -> bool:
    """Whether labels follow the rule, so that the right label of any image is known."""
    return spec.classes == LAND_COVER_CLASSES and set(LAND_COVER_BANDS) <= set(spec.bands)


class RuleObserver(Observer):
    """Pixels of each class where the rule, applied to the image, agrees with the mask.

    Rows are ``hit``, ``predicted`` (by the rule) and ``labelled`` (in the mask), ``(B, K)`` each.

    Args:
        spec: Describes the samples.
    """

    name = 'rule'

    def __init__(self, spec: DatasetSpec) -> None:
        self.spec = spec

    @property
    def settings(self) -> dict[str, Any]:
        """The rule, and the unit of the samples."""
        return {'rule': 'land cover', 'scale': self.spec.scale}

    def observe(self, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Rows of a batch."""
        found = land_cover(image[:, 0] / self.spec.scale, self.spec.bands)
        return count_pixels(found, mask, self.spec.num_classes)._asdict()
