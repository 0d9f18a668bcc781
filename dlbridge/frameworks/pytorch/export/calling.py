"""How a module is called when it is read: what is made of its inputs before ``forward``, and of its result after it.

Outside are tensors in dicts, lists and tuples, which ``torch.export`` knows and which have names; inside is what the
module takes and returns. The export, the trials at other sizes and the comparison with the original call it in one way.
"""

from __future__ import annotations

import contextlib
import inspect
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping
from typing import Any
from unittest import mock

import torch

from dlbridge.decoding import PRESENT
from dlbridge.errors import SignatureError
from dlbridge.frameworks.pytorch.export import results
from dlbridge.frameworks.pytorch.export.caches import Form

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


class Calling:
    """Calls a module with caches that are made of tensors, and takes apart the caches that it returns.

    Args:
        forms: Parameter (its name, or its position) -> what is made of the tensors that are given for it.
        cache: Whether the caches that it returns are among the results.

    Attributes:
        gives_dict: Whether the module's own code returned a dict when it was called last, rather than an object of some
            class (``ModelOutput``), which is one here, too.
    """

    def __init__(self, forms: Mapping[str | int, Form] | None = None, *, cache: bool = True) -> None:
        self._forms, self._cache = dict(forms or {}), cache
        self.gives_dict = True

    def signature(self, forward: inspect.Signature) -> inspect.Signature:
        """The parameters by which a module is called: those of its ``forward``, a cache by the name that the user gives
        it."""
        given = {_parameter(forward, name): name for name in self._forms if isinstance(name, str)}
        parameters = [p.replace(name=given.get(name, name)) for name, p in forward.parameters.items()]
        return forward.replace(parameters=parameters)

    def keeps_inputs(self, forward: inspect.Signature) -> bool:
        """Whether ``forward`` of the module is called with just what is given."""
        return not self._forms and (self._cache or "use_cache" not in forward.parameters)

    def arguments(self, forward: inspect.Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Arguments:
        """What ``forward`` of the module is called with."""
        given = tuple(self._made(index, value) for index, value in enumerate(args))
        named = {_parameter(forward, name): self._made(name, value) for name, value in kwargs.items()}
        if not self._cache and "use_cache" in list(forward.parameters)[len(args) :]:
            named.setdefault("use_cache", False)
        return given, named

    def result(self, result: Any) -> Any:
        """What a call returns, in tensors and containers."""
        self.gives_dict = type(result) in (dict, OrderedDict)
        found = results.plain(result, cache=self._cache)
        if self._forms and isinstance(found, Mapping):
            # The name of the cache is that of an input already.
            return {PRESENT if name in results.CACHES else name: value for name, value in found.items()}
        return found

    def __call__(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Call a module."""
        given, named = self.arguments(inspect.signature(module.forward), args, kwargs)
        return self.result(module(*given, **named))

    @contextlib.contextmanager
    def installed(self, module: torch.nn.Module) -> Iterator[None]:
        """Within the block, the module itself is called so."""
        forward, own = module.forward, inspect.signature(module.forward)
        if self.keeps_inputs(own):
            # Under another ``forward``, torch.export loses the paths of shared layers.
            with module.register_forward_hook(lambda module, arguments, result: self.result(result)):
                yield
            return

        def called(*args: Any, **kwargs: Any) -> Any:
            given, named = self.arguments(own, args, kwargs)
            return self.result(forward(*given, **named))

        called.__signature__ = self.signature(own)  # type: ignore[attr-defined]
        with mock.patch.object(module, "forward", called):
            yield

    def must_read(self, name: str) -> bool:
        """Whether an input is one that a module which takes it has to read: a part of a cache."""
        parameter, dot, _ = name.partition(".")
        return bool(dot) and (parameter in self._forms or parameter in results.CACHES)

    def check_sizes(self, free: Collection[int]) -> None:
        """Refuse a cache that keeps as a number what is a free size of its tensors: it would stay as it is.

        Raises:
            SignatureError: When one does.
        """
        for parameter, form in self._forms.items():
            for place, number in form.numbers():
                if number in free:
                    raise SignatureError(
                        f"the cache holds the number {number} ({place}), which is also a free size of the example",
                        where=f"input {parameter}",
                        hint="where it is that size, the cache cannot have others; where it is not, give an example "
                        "of another size",
                    )

    def _made(self, parameter: str | int, value: Any) -> Any:
        form = self._forms.get(parameter)
        return value if form is None else form.made(value)


def _parameter(signature: inspect.Signature, name: str) -> str:
    """The parameter that takes a cache of that name: newer releases of transformers call it ``cache``, older ones
    ``past_key_values``."""
    if name in signature.parameters or name not in results.CACHES:
        return name
    return next((other for other in signature.parameters if other in results.CACHES), name)
