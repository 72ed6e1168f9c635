"""Datasets whose samples are drawn by what their spec says of bands and classes."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor

from torchgeo_specdm import compat
from torchgeo_specdm.plotting import plot_sample
from torchgeo_specdm.spec import DatasetSpec

_Base: Any = compat.non_geo_dataset()


class Plotted(_Base):
    """A dataset with a ``spec`` and TorchGeo's ``plot``; one method to override where ``spec`` is not that of a sample.

    Attributes:
        rgb_bands: Bands without which a sample is not drawn; by default the nearest ones to red, green and blue are.
    """

    rgb_bands: Sequence[str] = ()

    def plot(self, sample: dict[str, Tensor], show_titles: bool = True, suptitle: str | None = None) -> Figure:
        """The image (both dates, under one stretch), its mask and, if the sample has one, a prediction.

        Args:
            sample: A sample of this dataset; ``prediction`` is shaped as ``mask``.
            show_titles: Whether each panel has a title.
            suptitle: Title of the figure.

        Returns:
            The figure; the caller closes it.

        Raises:
            RGBBandsMissingError: One of ``rgb_bands`` is not among the bands.
        """
        spec = self.spec_of(sample)
        if not set(self.rgb_bands) <= set(spec.bands):
            # Raised by datasets with bands that TorchGeo names, for which it is installed
            from torchgeo.datasets import RGBBandsMissingError

            raise RGBBandsMissingError
        return plot_sample(sample, spec, show_titles, suptitle)

    def spec_of(self, sample: dict[str, Tensor]) -> DatasetSpec:
        """Description of a sample in the shapes of ``spec.py``: that of all."""
        spec: DatasetSpec = self.spec
        return spec
