"""A framework whose code is in modules beside its class."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlbridge.errors import DlbridgeError, MissingExtraError, require
from dlbridge.frameworks.parts import Coverage, Exact, Trainer
from dlbridge.frameworks.protocol import PLUGIN_HINT, Framework, is_found

if TYPE_CHECKING:
    import numpy as np

    from dlbridge.model import Model
    from dlbridge.source.program import Source

__all__ = ["ModularFramework"]


class ModularFramework(Framework):
    """A framework whose code is in modules beside its class, which is in the ``__init__.py`` of a package.

    They are imported when they are needed; what they import that is not installed is an error that names the extra.

    | module | holds |
    |---|---|
    | ``__init__.py`` | the class, and above it ``ReadOptions`` and ``WriteOptions``, where there are |
    | ``reader.py`` | ``read(source, options)`` |
    | ``writer.py`` | ``write(model, options)`` |
    | ``runner.py`` | ``load``, ``run``, ``weights``, ``save_weights``; ``exact`` and ``load_saved`` where there are |
    | ``trainer.py`` | ``Trainer`` |
    | ``checkpoints.py`` | ``fill`` |
    | ``single_file.py`` | ``save``, for ``file_suffixes`` |
    | ``training_script.py`` | ``script(source, task, script)`` |
    | ``onnx_export.py`` | ``export`` |
    | ``coverage.py`` | ``coverage()`` |
    """

    def __init_subclass__(cls) -> None:
        module = sys.modules[cls.__module__]
        for name in ("ReadOptions", "WriteOptions"):
            if name not in vars(cls) and hasattr(module, name):
                setattr(cls, name, getattr(module, name))

    def part(self, name: str) -> Any:
        """A module of the package.

        Raises:
            MissingExtraError: When it imports what is not installed.
            DlbridgeError: When the package has no such module.
        """
        module = f"{type(self).__module__}.{name}"
        try:
            return require(module, self.extra)
        except MissingExtraError:
            if self.has_part(name):
                raise
            raise DlbridgeError(f"there is no module {module}", where=self.name, hint=PLUGIN_HINT) from None

    def _function(self, part: str, name: str) -> Callable[..., Any]:
        """A function (or class) of a module of the package.

        Raises:
            MissingExtraError: When the module imports what is not installed.
            DlbridgeError: When there is no such module, or no such function in it.
        """
        module = self.part(part)
        found: Callable[..., Any] | None = getattr(module, name, None)
        if found is None:
            raise DlbridgeError(f"{module.__name__} has no '{name}'", where=self.name, hint=PLUGIN_HINT)
        return found

    def has_part(self, name: str) -> bool:
        """Whether the package has a module of this name."""
        return is_found(f"{type(self).__module__}.{name}")

    def read_model(self, source: Any, options: Any) -> Model:
        if not self.reads:
            return super().read_model(source, options)
        return self._function("reader", "read")(source, options)

    def write_model(self, model: Model, options: Any) -> Source:
        return self._function("writer", "write")(model, options)

    def load(self, source: Any) -> Any:
        return self._function("runner", "load")(source)

    def run(self, live: Any, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return self._function("runner", "run")(live, inputs)

    def run_again(self, live: Any, inputs: Mapping[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
        again = getattr(self.part("runner"), "run_again", None)
        yield from super().run_again(live, inputs) if again is None else again(live, inputs)

    def fill(self, live: Any, weights: Path, *, strict: bool = True) -> None:
        if not self.has_part("checkpoints"):
            super().fill(live, weights, strict=strict)
        self._function("checkpoints", "fill")(live, weights, strict=strict)

    def exact(self, live: Any) -> Exact | None:
        opens = getattr(self.part("runner"), "exact", None)
        return opens(live) if opens is not None else None

    def weights(self, live: Any) -> dict[str, np.ndarray]:
        return self._function("runner", "weights")(live)

    def save_weights(self, source: Source, folder: Path) -> None:
        self._function("runner", "save_weights")(source, folder)

    def load_saved(self, source: Source, folder: Path) -> Any:
        if not self.weights_file:
            return super().load_saved(source, folder)
        return self._function("runner", "load_saved")(source.of_file(folder / "model.py"), folder / self.weights_file)

    def export(self, live: Any, model: Model, path: Path, *, opset: int) -> Path:
        if self.exporter is None:
            return super().export(live, model, path, opset=opset)
        return self._function("onnx_export", "export")(live, model, path, opset=opset)

    def trainer(self, model: Model, task: Any, *, checkpoint: Any) -> Trainer:
        if self.trains is None:
            return super().trainer(model, task, checkpoint=checkpoint)
        return self._function("trainer", "Trainer")(model, task, checkpoint=checkpoint)

    def group(self) -> Any:
        return self._function("group", "group")() if self._has_group else None

    @property
    def ray_trainer(self) -> str:
        return str(self.part("group").RAY_TRAINER) if self._has_group else super().ray_trainer

    @property
    def _has_group(self) -> bool:
        return self.has_part("group")

    def coverage(self) -> Coverage | None:
        if not self.has_part("coverage"):
            return None
        found: Coverage = self._function("coverage", "coverage")()
        return found

    def save(
        self, source: Source, target: Path, *, certificate: Mapping[str, Any] | None = None, force: bool = False
    ) -> Path:
        """Write a folder, or a single file where ``target`` has one of ``file_suffixes``."""
        if Path(target).suffix.lower() not in self.file_suffixes:
            return super().save(source, target, certificate=certificate, force=force)
        from dlbridge.files import writing

        with writing(target, force=force) as fresh:
            self._function("single_file", "save")(source, fresh, str(target))
        return Path(target)

    def training_script(self, source: Source, task: Any, script: Any) -> str:
        if not self.has_part("training_script"):
            return super().training_script(source, task, script)
        text: str = self._function("training_script", "script")(source, task, script)
        return text
