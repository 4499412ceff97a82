"""Tasks of a run: each turns batches into a loss and a model into metrics; the loop is one for all."""
