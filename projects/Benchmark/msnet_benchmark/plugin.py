"""What this project brings to ``msnet``."""

from msnet_d2.projects import Project

PROJECT = Project(
    title="compares methods: accuracy, ablation, speed",
    commands={"bench": "msnet_benchmark.command"},
)
