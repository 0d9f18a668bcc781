"""The data of a training: opened, prepared, checked against the model, and given in batches."""
