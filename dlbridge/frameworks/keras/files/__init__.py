"""What is on disk, checked before Keras sees it: ``.keras``, ``.h5``, SavedModel, TensorFlow Lite."""
