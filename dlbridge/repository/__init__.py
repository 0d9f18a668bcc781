"""The layout of a model repository and the language of its ``config.pbtxt``, as Triton and KServe have them."""
