"""FCMAE pre-training (ConvNeXt V2, section 3)."""
