"""Windows that cover a scene."""

from torchgeo_specdm.errors import SpecDMError


def patch_origins(height: int, width: int, patch_size: int, overlap: float = 0.0) -> list[tuple[int, int]]:
    """Upper left corners of square windows that together cover a whole scene, row by row.

    Neighbouring windows are ``patch_size * (1 - overlap)`` px apart, rounded. The last window of a row or column is
    shifted back to the border of the scene, so that every pixel is covered and none is padded.

    Args:
        height: Height of the scene [px].
        width: Width of the scene [px].
        patch_size: Height and width of a window [px].
        overlap: Share of a window that its neighbour covers too, in [0, 1).

    Returns:
        ``(row, column)`` of each window, sorted.

    Raises:
        SpecDMError: A window does not fit into the scene, or an argument is out of range.
    """
    if patch_size < 1:
        raise SpecDMError(f'patch_size is {patch_size} px; it must be at least 1')
    if not 0 <= overlap < 1:
        raise SpecDMError(f'overlap is {overlap}; it must be a share of the patch, at least 0 and less than 1')
    if patch_size > min(height, width):
        raise SpecDMError(f'patch_size {patch_size} px is larger than the scene of {height} x {width} px')
    step = max(1, round(patch_size * (1 - overlap)))
    return [(row, col) for row in _starts(height, patch_size, step) for col in _starts(width, patch_size, step)]


def _starts(length: int, size: int, step: int) -> list[int]:
    last = length - size
    return [*range(0, last, step), last]
