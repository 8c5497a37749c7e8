"""A cluster of four nodes on one machine that loses one in the middle of a run."""

import logging
import random

import pytest
from support import traps
from support.running import who

import nets_deap as nets
from nets_deap.evolution.ray_map import RayMap

pytestmark = [pytest.mark.extra, pytest.mark.slow]  # Ray takes seconds to start

ray = pytest.importorskip("ray", reason='workers need the extra "ray"')
NGEN = 3


@pytest.fixture
def cluster():
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "num_gpus": 0})
    nodes = [cluster.add_node(num_cpus=1, num_gpus=0) for _ in range(3)]
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    yield cluster, nodes
    ray.shutdown()
    cluster.shutdown()


def evolve(task, lose=None):
    """Search; lose a node once the second generation is half done."""
    done = []

    def count(n):
        done.append(n)
        if lose is not None and task.ledger.networks > 12:
            lose()

    run = task.run
    task.run = lambda *a, **k: run(*a, **{**k, "on_chunk": count})
    found = nets.search(
        task, population=12, offspring=12, generations=NGEN, seed=4, progress="none", inherit="none"
    )
    return who(found.population), [ticket.digest for ticket in found.front]


def test_a_node_that_is_lost_in_the_middle_of_a_run_changes_nothing(cluster, tmp_path, caplog):
    here = evolve(traps.task(tmp_path))
    task, lost = traps.task(tmp_path, seconds=0.01), []

    def lose():
        busy = {handle.node for handle in workers.executor.handles if handle.chunk}
        found = [node for node in cluster[1] if node.node_id in busy]
        if found and not lost:
            lost.append(1)
            before = random.getstate()  # what removes a node draws from it
            cluster[0].remove_node(found[0], allow_graceful=False)
            random.setstate(before)

    workers = RayMap(task, workers=4, address=cluster[0].address, start_seconds=120)
    with caplog.at_level(logging.WARNING, logger="nets_deap"), workers:
        there = evolve(task, lose)
        assert workers.traffic.failed == 0
        assert workers.traffic.lost >= 1
    assert lost
    assert there == here
    assert ray.is_initialized()  # whoever started it stops it
