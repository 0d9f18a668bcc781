"""Models as classes of modules, in any framework that has such."""
