"""What a run trains for: each task turns batches into a loss and a model into metrics; the loop is one for all."""
