"""What passes, readers and writers must know of an op: the extension domain and the traits."""
