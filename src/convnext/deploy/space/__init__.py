"""A run as a demo on the Hugging Face Hub: a Space that runs `convnext serve`."""
