"""ROI heads; importing registers them with Detectron2."""
