"""One band of a scene as bytes and back, without loss: JPEG 2000, and a band of coarser pixels before it was resampled.

A 20 m band that is served on a 10 m grid has a quarter of the pixels; stored as it was and resampled on reading, it
takes a third of the bytes. What GDAL computes in another order of rounding is off by one in a few pixels of a million:
these are stored beside it, so that what is read is what was packed, to the bit.
"""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from torchgeo_specdm.errors import SpecDMError

# Where more of the resampled pixels are off, resampling is another than this one, and the band is stored resampled
_MOST_OFF = 0.01
# JPEG 2000 halves an image this often, unless it is too small for that
_LEVELS = 6


def encode_plane(plane: NDArray[Any], native: NDArray[Any] | None = None) -> dict[str, NDArray[Any]]:
    """A band as arrays to store.

    Args:
        plane: ``(H, W)`` of 8 or 16 bit without sign.
        native: The raster of fewer pixels that ``plane`` was resampled from, bilinearly.

    Returns:
        ``code``, uint8, and where resampling leaves a rest, ``at`` (int32, flat positions) and ``values`` there.

    Raises:
        SpecDMError: The type is another one, or this Pillow has no JPEG 2000.
    """
    if plane.dtype not in (np.uint8, np.uint16):
        raise SpecDMError(f'a pack holds integers of 8 or 16 bit without sign, not {plane.dtype}')
    coarser = native is not None and native.shape != plane.shape and np.less_equal(native.shape, plane.shape).all()
    if native is not None and coarser and native.dtype == plane.dtype:
        off = np.flatnonzero(resample(native, plane.shape) != plane)
        if len(off) <= _MOST_OFF * plane.size:
            rest = {'at': off.astype(np.int32), 'values': plane.ravel()[off]} if len(off) else {}
            return {'code': _compress(native), **rest}
    return {'code': _compress(plane)}


def decode_plane(stored: Mapping[str, NDArray[Any]], shape: tuple[int, int], resampled: bool = True) -> NDArray[Any]:
    """The band that :func:`encode_plane` stored.

    Args:
        stored: The arrays; a file of others may hold anything.
        shape: ``(H, W)`` of the band.
        resampled: Whether it may have been stored with fewer pixels.

    Raises:
        SpecDMError: The arrays are damaged, or hold a band of another shape.
    """
    plane = _decompress(stored, shape)
    if plane.shape != shape:
        if not resampled:
            raise SpecDMError(f'a plane has {plane.shape} px, not {shape}')
        plane = resample(plane, shape)
    if 'at' in stored:
        at, values = stored['at'], stored.get('values')
        if values is None or at.shape != values.shape or values.dtype != plane.dtype or at.dtype != np.int32:
            raise SpecDMError('the rest of a resampled plane is damaged')
        if at.size and not 0 <= at.min() <= at.max() < plane.size:
            raise SpecDMError('the rest of a resampled plane lies outside of it')
        plane.ravel()[at] = values
    return plane


def _decompress(stored: Mapping[str, NDArray[Any]], shape: tuple[int, int]) -> NDArray[Any]:
    if 'code' not in stored:
        raise SpecDMError('a plane lacks its code')
    try:
        with Image.open(io.BytesIO(stored['code'].tobytes()), formats=['JPEG2000']) as image:
            # Looked at before any pixel is decoded
            if image.mode not in ('L', 'I;16') or image.width > shape[1] or image.height > shape[0]:
                raise SpecDMError(f'a plane has {image.height} x {image.width} px of {image.mode}, not {shape}')
            return np.array(image)
    except SpecDMError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise SpecDMError(f'a plane is damaged ({error})') from error


def resample(plane: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """``plane`` on a finer grid of the same extent, bilinearly, rounded to its type; pixels are areas, as in GDAL."""
    columns, right = _weights(plane.shape[1], shape[1])
    rows, below = _weights(plane.shape[0], shape[0])
    wide = plane.astype(np.float64)
    wide = wide[:, columns[0]] * right[0] + wide[:, columns[1]] * right[1]
    wide = wide[rows[0]] * below[0][:, None] + wide[rows[1]] * below[1][:, None]
    rounded: NDArray[Any] = np.floor(wide + 0.5).astype(plane.dtype)
    return rounded


def _weights(old: int, new: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The two old pixels that each new one lies between, and their weights, ``(2, new)`` each."""
    centre = (np.arange(new) + 0.5) * (old / new)
    first = np.floor(centre - 0.5).astype(np.int64)
    index = np.stack([first, first + 1])
    weight = np.clip(1 - np.abs(index + 0.5 - centre), 0, None)
    weight[(index < 0) | (index >= old)] = 0
    return index.clip(0, old - 1), weight / weight.sum(0)


def _compress(plane: NDArray[Any]) -> NDArray[np.uint8]:
    levels = min(_LEVELS, min(plane.shape).bit_length())
    buffer = io.BytesIO()
    try:
        Image.fromarray(plane).save(buffer, 'JPEG2000', irreversible=False, num_resolutions=levels, no_jp2=True)
    except (OSError, KeyError) as error:
        raise SpecDMError(f'this Pillow cannot write JPEG 2000 ({error}): install its wheel') from error
    return np.frombuffer(buffer.getvalue(), np.uint8)
