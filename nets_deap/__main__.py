"""``python -m nets_deap``: the command line."""

import sys

from nets_deap.cli.main import main

sys.exit(main())
