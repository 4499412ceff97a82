"""Predictors: trained models that classify images, detect objects in them, or segment them."""
