"""What guidance does where classes are requested: shares of pixels, and how well the pairs are still aligned.

    python examples/benchmarks/conditions.py oscd-landcover --n 8 --guidance 1 1.5 2.5 4

Each class of land cover is requested at each share, in --n samples. Masks are steered to the request whatever the
guidance, which prefers pairs of such shares. Printed are the mean absolute error of the share per sample, and the mIoU
of the rule, applied to the image, with the mask.
"""

import argparse
from collections.abc import Iterator

from exact_alignment import agreement
from torch import Tensor

from torchgeo_specdm.datasets import SpecDMSynthetic

SHARES = (0.1, 0.4, 0.7)


def requested(
    checkpoint: str, count: int, guidance: float, steps: int, agreement: float
) -> Iterator[tuple[Tensor, Tensor, float]]:
    """Image, mask and the error of the share, for each class, share and sample."""
    for number, name in enumerate(SpecDMSynthetic(checkpoint).spec.classes):
        for share in SHARES:
            made = SpecDMSynthetic(
                checkpoint,
                count,
                steps=steps,
                classes={name: share},
                guidance=guidance,
                agreement=agreement,
                cache=None,
            )
            for sample in made:
                yield sample['image'], sample['mask'], float(((sample['mask'] == number).float().mean() - share).abs())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('checkpoint')
    parser.add_argument('--n', type=int, default=8, help='samples for each class and share')
    parser.add_argument('--guidance', type=float, nargs='+', default=[1.0, 1.5, 2.5, 4.0])
    parser.add_argument('--steps', type=int, default=20)
    parser.add_argument('--agreement', type=float, default=1.0)
    args = parser.parse_args()

    print(
        '| guidance | steps | agreement | N | error of the share | exact alignment, mIoU |\n|---|---|---|---|---|---|'
    )
    spec = SpecDMSynthetic(args.checkpoint).spec
    for guidance in args.guidance:
        made = list(requested(args.checkpoint, args.n, guidance, args.steps, args.agreement))
        score, _ = agreement(((image, mask) for image, mask, _ in made), spec)
        error = sum(missed for *_, missed in made) / len(made)
        print(f'| {guidance:g} | {args.steps} | {args.agreement:g} | {len(made)} | {error:.4f} | {score} |', flush=True)


if __name__ == '__main__':
    main()
