"""Files, images and messages: helpers that know nothing of models or data sets."""
