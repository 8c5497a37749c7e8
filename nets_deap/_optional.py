"""Optional packages, imported when first needed, with the command that installs them."""

from __future__ import annotations

import importlib
from typing import Any

from nets_deap.errors import MissingExtraError


def require(module: str, extra: str, purpose: str) -> Any:
    """Import ``module`` or raise an error that names the extra which brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise MissingExtraError(
            f"{purpose} needs the package {package!r}, which could not be imported ({error}). "
            f'Install it in the clone of nets_deap with: pip install -e ".[{extra}]"'
        ) from error
