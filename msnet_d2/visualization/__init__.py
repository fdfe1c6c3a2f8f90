"""Drawing of ground truth and of what a model finds."""

from msnet_d2.visualization.draw import draw_ground_truth, draw_instances

__all__ = ["draw_ground_truth", "draw_instances"]
