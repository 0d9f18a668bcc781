"""Helpers of what a model's state dict holds."""


def constants_may_be_missing(*names):
    """A hook: these constants keep their numbers where a state dict does not have them."""
    endings = tuple(f".{name}" for name in names)

    def hook(module, keys):
        keys.missing_keys[:] = [key for key in keys.missing_keys if not f".{key}".endswith(endings)]

    return hook
