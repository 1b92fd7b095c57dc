"""Images and labels: sources, splits, decoding, augmentation."""
