"""``versions``: of this package, of Python and of what results depend on."""

from __future__ import annotations

import functools
import importlib.metadata
import platform

PACKAGES = ("deap", "moocore", "numpy", "torch")

# A package does not change while it is loaded, and its metadata, which may hold a whole README, is
# parsed anew by each call: a millisecond in every generation with a new ticket on the front.
_version = functools.cache(importlib.metadata.version)


def versions() -> dict[str, str]:
    """Return the versions of this package, of Python and of what results depend on."""
    own = {"nets_deap": _version("nets-deap"), "python": platform.python_version()}
    return own | {name: _version(name) for name in PACKAGES}
