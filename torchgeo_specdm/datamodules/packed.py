"""A packed dataset for the training of a generator, where neither TorchGeo nor rasterio is."""

from collections.abc import Sequence
from pathlib import Path

from torchgeo_specdm.datamodules.generator import PairDataModule
from torchgeo_specdm.datasets.pack import Pack
from torchgeo_specdm.datasets.packed import PackedPairs
from torchgeo_specdm.errors import SpecDMError


class PackedDataModule(PairDataModule):
    """Train, val and test patches of a pack, in raw units.

    Patches and splits are those of :class:`~torchgeo_specdm.datamodules.OSCDPatchesDataModule`, with ``land_cover``
    those of :class:`~torchgeo_specdm.datamodules.OSCDLandCoverDataModule`: train patches overlap, val and test patches
    do not, and no scene is in two splits. Batches are not normalised.

    Args:
        root: Folder of the pack.
        land_cover: Serve each date as a sample whose mask is land cover by the rule.
        patch_size: Height and width of a patch [px].
        overlap: Share of a train patch that its neighbour covers too, in [0, 1).
        val_scenes: Train scenes that are kept for validation; by default those that the pack names.
        batch_size: Patches in a batch.
        num_workers: Processes that load the data; patches are cut from memory, so few are enough.

    Raises:
        SpecDMError: There is no pack, or a scene to keep for validation is not in it. ``setup`` raises what
            :class:`~torchgeo_specdm.datasets.packed.PackedPairs` raises.
    """

    def __init__(
        self,
        root: str | Path,
        land_cover: bool = False,
        patch_size: int = 128,
        overlap: float = 0.5,
        val_scenes: Sequence[str] | None = None,
        batch_size: int = 32,
        num_workers: int = 0,
    ) -> None:
        super().__init__(batch_size, num_workers)
        self.pack = Pack.open(root)
        self.land_cover = land_cover
        self.patch_size = patch_size
        self.overlap = overlap
        train = self.pack.names('train')
        named = self.pack.val.get('land_cover' if land_cover else 'mask', ())
        self.val_scenes = tuple(sorted(named if val_scenes is None else val_scenes))
        if absent := [name for name in self.val_scenes if name not in train]:
            raise SpecDMError(f'{absent[0]} is no train scene of the pack; it has {", ".join(train)}')

    def setup(self, stage: str) -> None:
        """Decode the scenes of ``fit`` or ``validate`` (train and val) or of ``test``, once."""
        train = [name for name in self.pack.names('train') if name not in self.val_scenes]
        if stage in ('fit', 'validate') and self.train_dataset is None:
            self.train_dataset = self._cut(train, self.overlap)
            self.val_dataset = self._cut(self.val_scenes, 0.0)
        if stage == 'test' and self.test_dataset is None:
            self.test_dataset = self._cut(self.pack.names('test'), 0.0)

    def _cut(self, scenes: Sequence[str], overlap: float) -> PackedPairs:
        return PackedPairs(self.pack, scenes, self.patch_size, overlap, self.land_cover)
