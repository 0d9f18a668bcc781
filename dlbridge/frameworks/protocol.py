"""What a framework is to dlbridge: the base class ``Framework``."""

from __future__ import annotations

import importlib
import importlib.util
import json
import operator
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dlbridge.errors import DlbridgeError, FileError, TrainingError
from dlbridge.frameworks.options import NoOptions, check_names, check_option, declared
from dlbridge.frameworks.parts import Coverage, Exact, Trainer, Trains

if TYPE_CHECKING:
    import numpy as np

    from dlbridge.model import Model
    from dlbridge.source.program import Source

__all__ = ["Framework"]

#: What to do about a plug-in that lacks something.
PLUGIN_HINT = "docs/plugins.md says what a plug-in must have"


class Framework:
    """A framework. Importing its class must not import the framework itself: ``dlbridge --help`` imports all of them.

    A framework must have a ``name`` and the methods ``write_model``, ``load``, ``run``, ``weights`` and
    ``save_weights``. All else has a default, which stands for a framework that does not do it. It may add:

    * Options of writing: ``WriteOptions``.
    * Reading: ``suffixes``, ``accepts_folder`` or ``live_classes``, ``read_model``, ``ReadOptions``; ``fill``.
    * Training: ``trains`` and ``trainer``.
    * An ONNX exporter of its own: ``exporter`` and ``export``. It is one more route of the verification.
    * Running a live model in float64: ``exact``. The framework is then compared more closely.
    * Another form on disk than a folder of ``model.py`` and weights: ``save``; a place in a repository of served
      models: ``is_served`` and ``add_version``.
    * Its installation: ``extra`` and ``packages``, so that what is missing is named and left out of the verification.

    Public for plug-ins, and kept stable: this class, :class:`ModularFramework`, and what ``dlbridge.frameworks``
    exports beside them. ``docs/plugins.md`` lists the other modules that a plug-in may rely on.

    Attributes:
        name: The word that users say: ``--to NAME``.
        title: The name as it is written in prose; ``name`` when empty.
        extra: The extra of dlbridge that brings it (``pip install 'dlbridge[EXTRA]'``); empty for a plug-in.
        packages: The packages that it needs, the framework itself first.
        suffixes: The suffixes of files that it reads.
        live_classes: The classes of its live models, by the names that its users import: ``"torch.nn.Module"``.
        exporter: The name of the program with which its users write ONNX files; None if there is none.
        trains: The losses and optimizers that it supports; None if it does not train.
        form_of: The framework whose written model this is another form of (a file for devices, say); empty for one that
            stands for itself. A form is written and compared where it is asked for, and not by all that goes over
            every framework.
        has_strings: Whether models that it writes may take, compute and return strings.
        is_served: Whether a repository of served models holds what it writes; it then has ``add_version``.
        file_suffixes: The suffixes of single files that ``save`` can write in place of a folder.
        weights_file: The name of the file that ``save_weights`` writes, where ``load_saved`` reads it.
        ReadOptions: Dataclass of the options of reading. Its fields are made by ``frameworks.option``.
        WriteOptions: Dataclass of the options of writing.
    """

    name: ClassVar[str]
    title: ClassVar[str] = ""
    extra: ClassVar[str] = ""
    packages: ClassVar[tuple[str, ...]] = ()
    suffixes: ClassVar[tuple[str, ...]] = ()
    live_classes: ClassVar[tuple[str, ...]] = ()
    exporter: ClassVar[str | None] = None
    trains: ClassVar[Trains | None] = None
    form_of: ClassVar[str] = ""
    has_strings: ClassVar[bool] = False
    is_served: ClassVar[bool] = False
    file_suffixes: ClassVar[tuple[str, ...]] = ()
    weights_file: ClassVar[str] = ""
    ReadOptions: ClassVar[type] = NoOptions
    WriteOptions: ClassVar[type] = NoOptions

    # --- what dlbridge calls, with options that are checked -------------------------------------------------------

    def read(self, source: Any, **options: Any) -> Model:
        """A model of the framework, live or in a file, in the neutral form.

        Raises:
            DlbridgeError: When there is no such option, its value has another type, or the model cannot be read.
        """
        return self.read_model(source, self.read_options(options))

    def write(self, model: Model, **options: Any) -> Source:
        """The model as source code, with the map from the framework's weights to the model's initializers.

        Raises:
            DlbridgeError: When there is no such option, its value has another type, or the model cannot be written.
        """
        source = self.write_model(model, self.write_options(options))
        if not hasattr(source, "model"):
            text = f"write_model returned a {type(source).__name__}, not a dlbridge.source.program.Source"
            raise DlbridgeError(text, where=self.name, hint=PLUGIN_HINT)
        source.origin = model
        return source

    def read_options(self, given: Mapping[str, Any]) -> Any:
        """The options of reading, checked: an instance of ``ReadOptions``."""
        check_names(self.name, "read", self.ReadOptions, given)
        return self._checked(self.ReadOptions, given)

    def write_options(self, given: Mapping[str, Any], *, hint: str | None = None) -> Any:
        """The options of writing, checked: an instance of ``WriteOptions``."""
        check_names(self.name, "write", self.WriteOptions, given, hint)
        return self._checked(self.WriteOptions, given)

    def _checked(self, options: type, given: Mapping[str, Any]) -> Any:
        for found in declared(options):
            if found.name in given:
                check_option(found, given[found.name], self.name)
        return options(**given)

    @property
    def reads(self) -> bool:
        """Whether any of its models can be read."""
        own = type(self)
        is_told_apart = own.accepts is not Framework.accepts or own.accepts_folder is not Framework.accepts_folder
        return bool(self.live_classes or self.suffixes) or is_told_apart

    @property
    def is_installed(self) -> bool:
        """Whether its package is there, found without importing it."""
        return not self.packages or self.packages[0] in sys.modules or is_found(self.packages[0])

    @property
    def not_installed(self) -> str:
        """What to say where it is not installed."""
        how = f" (pip install 'dlbridge[{self.extra}]')" if self.extra else ""
        return f"{self.packages[0]} is not installed{how}"

    # --- what a framework must do -----------------------------------------------------------------------------------

    def write_model(self, model: Model, options: Any) -> Source:
        """The model as source code, with the map from the framework's weights to the model's initializers.

        Args:
            model: Left as it is.
            options: An instance of ``WriteOptions``.
        """
        raise NotImplementedError

    def load(self, source: Any) -> Any:
        """The live model: a ``Source``, executed, with its weights; for the standard also a file."""
        raise NotImplementedError

    def run(self, live: Any, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run a live model in inference mode: arrays by input name -> arrays by output name."""
        raise NotImplementedError

    def run_again(self, live: Any, inputs: Mapping[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
        """As ``run``, once for each way in which users run a model that does not train.

        Verification runs the first inputs so once more: the outputs must be the same.
        """
        yield self.run(live, inputs)

    def weights(self, live: Any) -> dict[str, np.ndarray]:
        """The live model's weights as they are now, by the keys of its ``Source.weights``."""
        raise NotImplementedError

    def weights_one_by_one(self, live: Any) -> Mapping[str, np.ndarray]:
        """As ``weights``; where an array has to be copied, that is done when it is looked up."""
        return self.weights(live)

    def save_weights(self, source: Source, folder: Path) -> None:
        """Write the weights into a folder, in the framework's own format."""
        raise NotImplementedError

    # --- what a framework may do ------------------------------------------------------------------------------------

    def devices(self) -> tuple[str, ...]:
        """The devices of this machine on which the verification runs written models beside the CPU (``"cuda"``)."""
        return ()

    def load_on(self, source: Any, device: str) -> Any:
        """The live model on one of ``devices()``. Products of float32 are not rounded to fewer bits there."""
        raise DlbridgeError(f"models of {self.name} are not run on '{device}'")

    def accepts(self, source: object) -> bool:
        """Whether ``source`` is a live object of this framework (decided without importing the framework)."""
        return any(_is_live(source, name) for name in self.live_classes)

    def accepts_folder(self, path: Path) -> bool:
        """Whether a folder is a model as users of this framework save it (decided without importing the framework)."""
        return False

    def read_model(self, source: Any, options: Any) -> Model:
        """A model of the framework, live or in a file, in the neutral form.

        A reader sets ``model.original``, so that conversions are compared with what was read.

        Args:
            source: What ``accepts`` accepts, the path of a file with one of ``suffixes``, or of a folder that
                ``accepts_folder`` accepts.
            options: An instance of ``ReadOptions``.
        """
        raise DlbridgeError(f"models of {self.name} are written, not read")

    def parts(self, source: Any, task: str, *, trust_code: bool = False) -> dict[str, str]:
        """The graphs that a model is written as for a task: the name of each -> the task that reads it alone.

        Args:
            source: What ``accepts`` or ``accepts_folder`` accepts.
            task: What the model is to do.
            trust_code: Allow the Python code of a model that lies in the folder.

        Raises:
            DlbridgeError: When the framework's models are not read for tasks.
        """
        raise DlbridgeError(f"models of {self.name} are not read for the task '{task}'")

    def fill(self, live: Any, weights: Path, *, strict: bool = True) -> None:
        """Put the weights of a file into a live model that a user's function has made.

        Args:
            live: What ``accepts`` accepts.
            weights: A file in one of the forms that users of the framework have.
            strict: Whether the file must have the model's weights and no others.

        Raises:
            FileError: When the file is missing, broken, or holds what could run code.
            WeightsError: When the weights do not fit the model.
        """
        raise DlbridgeError(f"{self.name} takes no weights from a file", where=str(weights))

    def exact(self, live: Any) -> Exact | None:
        """What runs the live model in float64; None where nothing does."""
        return None

    def quantize(
        self, source: Any, how: str, *, data: Sequence[Mapping[str, np.ndarray]] = (), keep: Sequence[str] = ()
    ) -> Any:
        """What was written, with its weights (and activations) as small integers.

        Args:
            source: What ``write`` returned.
            how: ``"int8"``, ``"int8-static"`` or ``"int4"``.
            data: Sets of inputs to calibrate with.
            keep: Names of nodes and blocks that stay as they are.
        """
        raise DlbridgeError(f"{self.name} is not quantized", hint="an ONNX file can be")

    def load_saved(self, source: Source, folder: Path) -> Any:
        """The live model of a saved folder: its ``model.py``, executed, with the weights that lie beside it.

        Args:
            source: The model as the framework writes it now: the file must have the same entry, inputs and outputs.
            folder: The folder.

        Raises:
            DlbridgeError: When the file has no such entry, or the weights do not fit it.
        """
        raise DlbridgeError(f"saved folders of {self.name} cannot be loaded", where=str(folder))

    def export(self, live: Any, model: Model, path: Path, *, opset: int) -> Path:
        """Write the live model to an ONNX file by the program that ``exporter`` names."""
        raise DlbridgeError(f"{self.name} has no ONNX exporter of its own", hint="convert the model to 'onnx'")

    def trainer(self, model: Model, task: Any, *, checkpoint: Any) -> Trainer:
        """Something that trains a model, by losses and an optimizer of those in ``trains``.

        Args:
            model: Its outputs are what the losses read.
            task: A ``dlbridge.training.task.Task``: the specification, and which output each loss reads.
            checkpoint: A ``dlbridge.training.result.Checkpoint`` whose optimizer slots are gone on with.
        """
        raise TrainingError(f"{self.name} does not train", where=model.name)

    def group(self) -> Any:
        """The processes that train together, this one among them (``dlbridge.training.group.Group``); None where it is
        alone."""
        return None

    @property
    def ray_trainer(self) -> str:
        """The class of Ray Train that starts processes which train together (``module:Class``).

        Raises:
            TrainingError: When the framework trains in one process alone.
        """
        raise TrainingError(f"{self.name} trains in one process", hint="leave out --on")

    def training_script(self, source: Source, task: Any, script: Any) -> str:
        """A training as a script in the framework's own words, which needs nothing else.

        Args:
            source: The model, as it is trained.
            task: A ``dlbridge.training.task.Task`` of one loss.
            script: A ``dlbridge.training.script.Script``: the data.

        Raises:
            TrainingError: When the framework has no words for the loss or the optimizer.
        """
        raise TrainingError(f"there are no scripts for {self.name}", where=source.model.name)

    def save(
        self, source: Source, target: Path, *, certificate: Mapping[str, Any] | None = None, force: bool = False
    ) -> Path:
        """Write a folder: ``model.py``, the weights in the framework's own format, and ``certificate.json``.

        Raises:
            FileError: When ``target`` exists and ``force`` is not set.
        """
        from dlbridge.files import writing

        with writing(target, force=force) as fresh:
            fresh.mkdir()
            (fresh / "model.py").write_text(source.text, encoding="utf-8")
            self.save_weights(source, fresh)
            if certificate is not None:
                text = json.dumps(certificate, indent=2) + "\n"
                (fresh / "certificate.json").write_text(text, encoding="utf-8")
        return Path(target)

    def check_target(self, target: Path) -> None:
        """Refuse the name of a file of a kind that this framework does not write; others are names of folders.

        Raises:
            FileError: When it is one.
        """
        from dlbridge import frameworks

        suffix = target.suffix.lower()
        known = {each for framework in frameworks.all_frameworks() for each in framework.suffixes}
        if suffix in known and suffix not in self.file_suffixes:
            writes = " or ".join(("a folder", *(f"a {each} file" for each in self.file_suffixes)))
            raise FileError(f"'{self.name}' is written as {writes}, not as '{suffix}'", where=str(target))

    def add_version(self, source: Source, repository: Path, *, certificate: Mapping[str, Any] | None = None) -> Path:
        """Put what was written into a repository of served models, as the next version of its entry."""
        raise NotImplementedError(f"{self.name} is not served")

    def import_packages(self) -> None:
        """Import what it needs, as ``dlbridge doctor`` does to see that it works; raises what importing raises."""
        for package in self.packages:
            importlib.import_module(package)

    def prepare_command_line(self) -> None:
        """Called by the command line before anything is imported: keep start-up messages off the terminal."""

    def save_memory(self) -> None:
        """Let its library give back memory that is free again, in a process that loads many models one after the other.
        Called before the library is imported."""

    def coverage(self) -> Coverage | None:
        """Its rules, for the page of what is read and written; None where it keeps none."""
        return None


def _is_live(source: object, name: str) -> bool:
    """Whether an object is of the class of this dotted name: of one whose package is not imported, nothing is."""
    package, _, path = name.partition(".")
    module = sys.modules.get(package)
    return module is not None and isinstance(source, operator.attrgetter(path)(module))


def is_found(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):  # a parent that is missing, a module without a specification
        return False
