"""``python -m torchgeo_specdm`` is ``specdm``."""

import sys

from torchgeo_specdm.cli import main

sys.exit(main())
