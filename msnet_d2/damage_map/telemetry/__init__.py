"""Flight logs: reading, cleaning, their time and the video's, the pose at a moment."""
