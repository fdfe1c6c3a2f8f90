"""What this project brings to ``msnet``."""

from msnet_d2.projects import Project

PROJECT = Project(
    title="BCNet (Ke et al., CVPR 2021), a mask head for objects that others hide in part",
    add_config="bcnet.config:add_bcnet_config",
    components=("bcnet.mask_head", "bcnet.occluders", "bcnet.evaluator"),
    commands={"coco-occ": "bcnet.command"},
    bench_methods="bcnet.plugin:BENCH_METHODS",
)
# See msnet_benchmark.methods.Method.
BENCH_METHODS = {
    "bcnet": {
        "title": "BCNet+D",
        "configs": {"quick": "quick/bcnet_lite0_FPN.yaml", "full": "bcnet_R50_FPN.yaml"},
    }
}
