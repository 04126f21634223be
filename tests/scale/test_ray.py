"""A study on a Ray cluster of several nodes: the same records as locally, also when a node dies."""

import os

import pytest

from peira import api
from peira.engine.states import Tally
from peira.errors import InputError
from tests.scale.conftest import PAID, ROOT, facts, replies, study

ray = pytest.importorskip("ray", reason="ray is not installed (pip install 'peira[ray]')")

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.filterwarnings("default"),  # ray's own imports and sockets
]


@pytest.fixture(scope="module")
def cluster():
    from ray.cluster_utils import Cluster

    before = dict(os.environ)
    os.environ |= {
        "PYTHONPATH": str(ROOT),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "disabled",
    }
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made.add_node(num_cpus=1)
    ray.init(address=made.address, log_to_driver=False, configure_logging=False)
    yield made
    ray.shutdown()
    made.shutdown()
    os.environ.clear()
    os.environ.update(before)


def execute(folder, the_study, **options):
    return api.run(the_study, api.Options(run_dir=folder, executor="ray", **options))


def test_the_records_are_those_of_a_local_run(cluster, tmp_path, local):
    report = execute(tmp_path / "ray", study())
    assert (report.tally, report.exit_code) == (Tally(done=6), 0)
    assert facts(tmp_path / "ray") == local(study())


def test_a_node_killed_in_mid_run_costs_nothing_but_the_call_in_flight(
    cluster, tmp_path, local, after_first
):
    doomed = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    slow = study(fixed={"model": f"{PAID},latency=0.05", "calls": 6})
    report = execute(
        tmp_path / "ray", slow, parallel=3, executor_options={"workers": 3},
        on_start=after_first(lambda: cluster.remove_node(doomed, allow_graceful=False)),
    )  # fmt: skip
    assert (report.tally, report.exit_code) == (Tally(done=6), 0)
    assert facts(tmp_path / "ray") == local(slow)
    assert replies(tmp_path / "ray")["done"] == 36


def test_a_budget_holds_over_the_cluster(cluster, tmp_path):
    report = execute(tmp_path / "ray", study(limits={"budget_usd": 0.1}))
    assert (report.exit_code, report.spent_usd <= 0.1) == (4, True)


def test_a_worker_that_fits_nowhere_is_refused(cluster, tmp_path):
    with pytest.raises(InputError, match="64 GPUs fits nowhere"):
        execute(tmp_path / "ray", study(), executor_options={"gpus": "64"})
