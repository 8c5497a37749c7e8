"""``versions``: of this package, of Python and of what results depend on."""

from __future__ import annotations

import platform
from importlib.metadata import version

PACKAGES = ("deap", "moocore", "numpy", "torch")


def versions() -> dict[str, str]:
    """Return the versions of this package, of Python and of what results depend on."""
    own = {"nets_deap": version("nets-deap"), "python": platform.python_version()}
    return own | {name: version(name) for name in PACKAGES}
