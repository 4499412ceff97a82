"""Images for classification: finding and decoding them, preprocessing, augmentation, samples, loaders."""
