"""What this project brings to ``msnet``."""

from msnet_d2.projects import Project

PROJECT = Project(
    title="PolarMask (Xie et al., CVPR 2020), one of the detectors that MSNet is compared with",
    add_config="polarmask.config:add_polarmask_config",
    components=("polarmask.meta_arch",),
    bench_methods="polarmask.plugin:BENCH_METHODS",
)
# See msnet_benchmark.methods.Method.
BENCH_METHODS = {
    "polarmask": {
        "title": "PolarMask+D",
        "configs": {"quick": "quick/polarmask_lite0_FPN.yaml", "full": "polarmask_R50_FPN.yaml"},
    }
}
