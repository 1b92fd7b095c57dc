"""A model on images becomes figures: accuracy, calibration, the classes of single images."""
