"""What ``config.json`` tells of a run: everything that was set, and with what."""

from __future__ import annotations

import hashlib
import json
import platform
import random
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import nets_deap
from nets_deap.task import Task

PACKAGES = ("deap", "moocore", "numpy", "torch")


def facts_of(task: Task, limits: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's facts as JSON has them."""
    state = repr(random.getstate()).encode()
    facts = {
        "task": task.as_dict(),
        "recorder": limits,
        "versions": versions(),
        "python_random_state": hashlib.sha256(state).hexdigest()[:16],
        **more,
    }
    plain: dict[str, Any] = json.loads(json.dumps(facts))
    return plain


def versions() -> dict[str, str]:
    """Return the versions of what results depend on."""
    return {
        "nets_deap": nets_deap.__version__,
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }
