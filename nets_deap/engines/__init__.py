"""Engines that hand a generation to workers; each worker trains by the task's own engine.

``RayMap`` is a toolbox's ``map`` over local processes, GPUs or a cluster, with Ray (the extra
``ray``). How chunks are cut, timed and tried again needs no Ray and has files of its own.
"""

from nets_deap.engines.ray_map import RayMap

__all__ = ["RayMap"]
