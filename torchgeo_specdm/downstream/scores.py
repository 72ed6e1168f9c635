"""The scores of the paper: IoU and F1 of each class, and their means over the classes."""

from collections.abc import Sequence

from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix

from torchgeo_specdm.comparison import Counts, classes_of, f1, iou


class ClassScores(MulticlassConfusionMatrix):
    """mIoU, mF1 and both for each class, over all pixels since the last reset.

    A class that is neither labelled nor predicted has no score (NaN) and is left out of the means.

    Args:
        num_classes: Number of classes, K.
        ignore_index: Label of pixels that do not count.
        labels: Names of the classes in the names of the scores; by default their indices.
    """

    # A step needs the counts of its own pixels alone
    full_state_update = False

    def __init__(self, num_classes: int, ignore_index: int | None = None, labels: Sequence[str] | None = None) -> None:
        super().__init__(num_classes, ignore_index=ignore_index)
        self.labels = [str(label) for label in (labels or range(num_classes))]

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Count pixels.

        Args:
            preds: Logits ``(B, K, H, W)``; of a binary task ``(B, 1, H, W)`` or ``(B, H, W)``.
            target: ``(B, H, W)`` or ``(B, 1, H, W)`` int64.
        """
        target = target.reshape(len(target), *target.shape[-2:])
        super().update(classes_of(preds if preds.ndim == 4 else preds.unsqueeze(1)), target)

    def counts(self) -> Counts:
        """Numbers of pixels of each class, ``(K,)``."""
        matrix = self.confmat.double()
        return Counts(matrix.diagonal(), matrix.sum(0), matrix.sum(1))

    def compute(self) -> dict[str, Tensor]:  # type: ignore[override]
        """``mIoU``, ``mF1``, and ``IoU_label`` and ``F1_label`` for each class."""
        counts = self.counts()
        scores: dict[str, Tensor] = {}
        for name, values in (('IoU', iou(counts)), ('F1', f1(counts))):
            scores[f'm{name}'] = values.nanmean().float()
            scores |= {f'{name}_{label}': value.float() for label, value in zip(self.labels, values, strict=True)}
        return scores
