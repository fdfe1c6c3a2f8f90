"""From detections on the ground to buildings: association, merging, assessment."""
