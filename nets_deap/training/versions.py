"""``origin_of``: where a ticket comes from, as plain data for its file."""

from __future__ import annotations

import platform
from importlib.metadata import version

import nets_deap

PACKAGES = ("deap", "moocore", "numpy", "torch")


def versions() -> dict[str, str]:
    """Return the versions of this package, of Python and of what results depend on."""
    own = {"nets_deap": nets_deap.__version__, "python": platform.python_version()}
    return own | {name: version(name) for name in PACKAGES}
