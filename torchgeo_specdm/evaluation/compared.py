"""A figure of synthetic samples beside what real samples reach; what is worse than both of these is flagged."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from torchgeo_specdm.evaluation.measure import Interval, Measure


class Compared(NamedTuple):
    """One figure three times.

    Real samples of other ground differ, too. A figure is flagged where its interval lies beyond those of both
    comparisons of real samples, by a factor, as intervals take neighbouring patches for independent.

    Attributes:
        synthetic: Of synthetic samples against train samples.
        halves: Of one half of the train samples against the other.
        held_out: Of held-out real samples against train samples.
    """

    synthetic: Interval
    halves: Interval
    held_out: Interval

    def exceeds(self, factor: float, least: float = 0.0) -> bool:
        """Whether the figure is larger than ``factor`` times that of real samples, and than ``least``."""
        limits = [factor * real.high for real in self._real]
        return bool(limits) and self.synthetic.low > max([*limits, least])

    def falls_short(self, factor: float) -> bool:
        """Whether the figure is smaller than ``factor`` times that of real samples."""
        limits = [factor * real.low for real in self._real]
        return bool(limits) and self.synthetic.high < min(limits)

    def off_by(self, factor: float) -> bool:
        """Whether a ratio is ``factor`` times as far from 1 as that of real samples, in either direction."""
        spread = [max(real.high, 1 / max(real.low, 1e-9)) for real in self._real]
        limit = factor * max([1.0, *spread])
        return bool(spread) and (self.synthetic.low > limit or self.synthetic.high < 1 / limit)

    def measure(
        self, name: str, *, unit: str = '', samples: int = 0, settings: Mapping[str, Any] | None = None, flag: str = ''
    ) -> Measure:
        """The figure as a row of a section; the arguments are those of :class:`Measure`."""
        held_out = {} if math.isnan(self.held_out.value) else {'held-out real': self.held_out.value}
        return Measure(
            name=name,
            value=self.synthetic,
            reference=self.halves,
            reference_name='real train halves',
            unit=unit,
            samples=samples,
            settings={**(settings or {}), **held_out},
            flag=flag,
        )

    @property
    def _real(self) -> list[Interval]:
        return [real for real in (self.halves, self.held_out) if not math.isnan(real.low + real.high)]
