from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from interformer_rec.errors import InputError
from interformer_rec.planning.cost.cluster import BYTES_PER_MS, PUBLISHED, known, load_cluster
from interformer_rec.text import GIB
from tests.planning.cases import CPU, GPU, cluster


def test_the_machines_of_the_guide_are_there():
    assert set(known()) == {
        "dgx-a100-40", "dgx-a100-80", "dgx-h100", "dgx-h200", "dgx-b200", "g5.48xlarge", "g2-standard-96", "cpu",
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(known()))
def test_every_number_of_a_known_cluster_has_a_source_and_a_sane_size(name):
    machine = load_cluster(name)
    assert machine.name == name
    given = {field for field in PUBLISHED if getattr(machine, field)}
    assert given == set(machine.sources)
    assert machine.intra_node_gb_per_s > machine.inter_node_gb_per_s
    assert machine.bf16_tflops / machine.fp32_tflops < 40
    if machine.device == "cuda":
        assert machine.hbm_gb_per_s > machine.intra_node_gb_per_s > 0
        assert 20 < machine.hbm_gib < 200


def test_topology_has_this_clusters_numbers_and_not_torchrecs_defaults():
    machine = cluster(GPU)
    topology = machine.topology(nodes=3, reserved_bytes=GIB)
    assert (topology.world_size, topology.local_world_size, topology.compute_device) == (6, 2, "cuda")
    assert topology.devices[5].storage.hbm == 15 * GIB
    assert topology.devices[0].storage.ddr == int(0.8 * 32 * GIB)
    assert topology.hbm_mem_bw == pytest.approx(0.6 * 1000 * BYTES_PER_MS)
    assert topology.inter_host_bw == pytest.approx(0.8 * 10 * BYTES_PER_MS)
    assert topology.intra_host_bw == pytest.approx(0.8 * 100 * BYTES_PER_MS)
    assert topology.hbm_to_ddr_mem_bw == pytest.approx(0.8 * 10 * BYTES_PER_MS)


def test_topology_of_a_cpu_node_shares_its_memory():
    topology = cluster(CPU).topology(nodes=1)
    assert topology.devices[0].storage.ddr == 8 * GIB
    assert topology.devices[0].storage.hbm == 0
    assert topology.ddr_mem_bw == pytest.approx(0.6 * 20 * BYTES_PER_MS)


def test_a_file_of_ones_own(tmp_path: Path):
    tree = yaml.safe_load(known()["dgx-h100"].read_text()) | {"name": "ours", "price_per_node_hour": 50}
    tree["sources"]["price_per_node_hour"] = "our contract"
    path = tmp_path / "ours.yaml"
    path.write_text(yaml.safe_dump(tree))
    assert load_cluster(str(path)).price_per_node_hour == 50


@pytest.mark.parametrize(
    "change, part",
    [
        ({"hbm_gib": 0}, "hbm_gib must be given"),
        ({"sources": {}}, "sources lacks"),
        ({"hbm": 80}, "hbm: unknown key 'hbm'; did you mean 'hbm_gib'"),
        ({"devices_per_node": 0}, "devices_per_node"),
        ({"device": "tpu"}, "device"),
        ({"sources": {"speed": "x"}}, "sources"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, change: dict[str, object], part: str):
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(known()["dgx-h100"].read_text()) | change))
    with pytest.raises(InputError, match=part):
        load_cluster(str(path))


def test_unknown_clusters_list_the_known_ones(tmp_path: Path):
    with pytest.raises(InputError, match=r"dgx-h1000.*cpu, dgx-a100-40"):
        load_cluster("dgx-h1000")
    (tmp_path / "list.yaml").write_text("- a\n")
    with pytest.raises(InputError, match="must be a mapping"):
        load_cluster(str(tmp_path / "list.yaml"))


@pytest.mark.parametrize("nodes", [0, -1, 99])
def test_nodes_out_of_range(nodes):
    with pytest.raises(InputError, match=f"1 to 16 nodes, not {nodes}"):
        cluster(GPU, max_nodes=16).ranks(nodes)
