"""Drawing of ground truth and of what a model finds."""

from msnet_d2.visualization.draw import draw_dataset_dict, draw_instance_predictions

__all__ = ["draw_dataset_dict", "draw_instance_predictions"]
