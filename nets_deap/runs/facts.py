"""What ``config.json`` tells of a run: everything that was set, and with what."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping
from typing import Any

from nets_deap.training.task import Task
from nets_deap.training.versions import versions


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
