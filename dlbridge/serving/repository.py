"""The models of a folder: found, loaded, unloaded, and loaded anew when their files change."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dlbridge.decoding import DECODER, ENCODER
from dlbridge.errors import DlbridgeError, FileError, suggest
from dlbridge.repository import config as configs
from dlbridge.repository.layout import CONFIG_FILE, MODEL_FILE, is_inside, is_version
from dlbridge.serving.problems import ServingError, Status
from dlbridge.serving.process import WorkerProcess
from dlbridge.serving.versions import MakeWorker, ServedVersion, State, labels
from dlbridge.serving.watching import Stamps, is_same, stamps_of_entry, stamps_of_file

LOG = logging.getLogger("dlbridge.serving")


@dataclass
class ServedModel:
    """A model of the repository.

    Attributes:
        name: Its name, which is its folder's.
        config: Its configuration, as read; None where it cannot be read.
        versions: Version -> what is served of it.
        failed: Version -> what could not be loaded when it was last tried; its ``reason`` says why.
        reason: Why nothing of it is served; "" where something is.
        stamps: What its files were like when they were loaded.
        is_ensemble: Whether it is an ensemble of other models.
        labels: Of an ensemble: output -> the labels of its classes.
    """

    name: str
    config: Any = None
    versions: dict[int, ServedVersion] = field(default_factory=dict)
    failed: dict[int, ServedVersion] = field(default_factory=dict)
    reason: str = ""
    stamps: Stamps = field(default_factory=dict)
    is_ensemble: bool = False
    labels: dict[str, list[str]] = field(default_factory=dict)

    def ready(self) -> list[ServedVersion]:
        return [v for _, v in sorted(self.versions.items()) if v.state is State.READY]

    def newest(self) -> ServedVersion | None:
        """The newest version that is ready."""
        for number in sorted(self.versions, reverse=True):
            if self.versions[number].state is State.READY:
                return self.versions[number]
        return None


class Repository:
    """What is served.

    Args:
        path: A folder of entries (``<name>/config.pbtxt``, ``<name>/<version>/model.onnx``), or one ``.onnx`` file.
            Among the entries may be what ``--task generate`` writes of an encoder and its decoder, a folder of both;
            its models are ``<name>.encoder`` and ``<name>.decoder``.
        only: Names of the entries that are served; all when empty.
        cache: A folder for optimised graphs; None for none.
        worker: What runs a version.

    Raises:
        FileError: When there is no such folder or file, or an entry of ``only`` is not there.
    """

    def __init__(
        self, path: Path, only: Sequence[str] = (), cache: Path | None = None, worker: MakeWorker = WorkerProcess
    ) -> None:
        if not path.exists():
            raise FileError("no such folder or file", where=str(path))
        self.path = path.resolve()
        self._cache = cache
        self._single = self.path if self.path.is_file() else None
        self._worker = worker
        self._only: frozenset[str] = frozenset()
        if self._single is None and not self.names() and self._is_entry(self.path):
            hint = f"'dlbridge serve {path.resolve().parent} --model {path.resolve().name}' serves it"
            raise FileError("this is an entry of a repository, not a repository", where=str(path), hint=hint)
        for name in only:
            if name not in self.names():
                raise FileError(f"there is no entry '{name}'", where=str(path), hint=suggest(name, self.names()))
        self._only = frozenset(only)
        self.models: dict[str, ServedModel] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._retiring: set[asyncio.Task[None]] = set()

    # --- what there is --------------------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """The names of the entries."""
        if self._single is not None:
            return [self._single.stem]
        return sorted(name for name in self._folders() if not self._only or name in self._only)

    def parts(self, name: str) -> tuple[str, str | None]:
        """The models that generate under a name: a decoder, and its encoder if it has one.

        The repository's own name stands for the entries ``encoder`` and ``decoder`` in it.

        Raises:
            ServingError: When there is no such model.
        """
        folder = "" if name == self.path.name else f"{name}."
        pair = (f"{folder}{DECODER}", f"{folder}{ENCODER}")
        if name not in self.models and all(part in self.models for part in pair):
            return pair
        self.model(name)
        return name, None

    def config(self, name: str) -> Any:
        """The configuration of an entry, as its file has it.

        Raises:
            FileError: When it cannot be read, or Triton would refuse it.
        """
        if self._single:
            return configs.ModelConfig(name=name)
        found = configs.read(self._folder(name))
        found.name = name  # a part of a pair is called by its folder alone
        return found

    def tokenizer(self, name: str) -> Path | None:
        """The ``tokenizer.json`` of a model, or of a pair of models; None if there is none."""
        if self._single is not None:
            folder = self.path.parent
        elif name == self.path.name and name not in self.models:
            folder = self.path
        else:
            folder = self.path / name
        file = folder / "tokenizer.json"
        return file if file.is_file() and self._is_inside(file) else None

    def _folders(self) -> dict[str, Path]:
        """The folder of each entry."""
        found: dict[str, Path] = {}
        for folder in self.path.iterdir():
            if self._is_entry(folder):
                found[folder.name] = folder
            elif self._is_pair(folder):
                found = {**{f"{folder.name}.{part}": folder / part for part in (ENCODER, DECODER)}, **found}
        return found

    def _folder(self, name: str) -> Path:
        """The folder of an entry. Of a name that is none, the folder where it would be."""
        folder = self.path / name
        pair, _, part = name.rpartition(".")
        if part in (ENCODER, DECODER) and not self._is_entry(folder) and self._is_pair(self.path / pair):
            return self.path / pair / part
        return folder

    def _has(self, name: str) -> bool:
        """Whether a name is one of ``names()``, without a look at the others."""
        if self._single is not None:
            return name == self._single.stem
        if self._only and name not in self._only:
            return False
        return configs.is_name(name) and self._is_entry(self._folder(name))

    def _is_pair(self, folder: Path) -> bool:
        """Whether a folder holds the entries of an encoder and its decoder, and is none itself."""
        if not configs.is_name(folder.name) or self._is_entry(folder):
            return False
        return all(self._is_entry(folder / part) for part in (ENCODER, DECODER))

    def _is_misnamed(self, folder: Path) -> bool:
        """Whether a folder holds what an entry holds, but has a name that no model can have."""
        is_hidden = folder.name.startswith(".")
        if is_hidden or configs.is_name(folder.name) or not self._is_inside(folder) or not folder.is_dir():
            return False
        return (folder / CONFIG_FILE).is_file() or any(_versions(folder))

    def _is_entry(self, folder: Path) -> bool:
        if not configs.is_name(folder.name) or not self._is_inside(folder) or not folder.is_dir():
            return False
        return (folder / CONFIG_FILE).is_file() or any(_versions(folder))

    def _is_inside(self, path: Path) -> bool:
        """Whether a path, links followed, is in the repository."""
        return is_inside(path, self._root)

    @property
    def _root(self) -> Path:
        return self.path if self._single is None else self._single.parent

    def version(self, name: str, version: str = "") -> ServedVersion:
        """A version that is ready: the one of that number, or the newest.

        Raises:
            ServingError: When there is none.
        """
        model = self.model(name)
        if version:
            found = model.versions.get(int(version)) if is_version(version) else None
            if found is None:
                raise ServingError(f"there is no version {version} of it", Status.NOT_FOUND, where=name)
            return found
        newest = model.newest()
        if newest is not None:
            return newest
        reason = model.failed[max(model.failed)].reason if model.failed else model.reason
        raise ServingError(
            f"no version of it is ready{f' ({reason})' if reason else ''}",
            Status.UNAVAILABLE,
            retry_after=1.0,
            where=name,
        )

    def model(self, name: str) -> ServedModel:
        """A model by its name.

        Raises:
            ServingError: When there is none.
        """
        if name not in self.models:
            what = f"Request for unknown model: there is no model '{name}'"  # Triton's examples look for these words
            raise ServingError(what, Status.NOT_FOUND, hint=suggest(name, self.models) or None)
        return self.models[name]

    # --- loading --------------------------------------------------------------------------------------------------

    async def load_all(self) -> None:
        """Load every entry; what cannot be loaded says why in its ``reason``.

        Raises:
            ServingError: When one file is served and cannot be loaded: there is nothing else to serve.
        """
        if self._single is not None:
            await self.load(self._single.stem)
            return
        for folder in sorted(self.path.iterdir()):
            if self._is_misnamed(folder):
                LOG.error("%r cannot be the name of a model, so %s is not served", folder.name, folder)
        await asyncio.gather(*(self.try_to_load(name) for name in self.names()))

    async def try_to_load(self, name: str) -> None:
        """Load an entry, or what has changed of it; the log says why where it cannot be."""
        try:
            await self.load(name)
        except ServingError as error:
            model = self.models.get(name)
            if model is None or not model.failed:  # a version that fails has logged why
                LOG.error("%s", error)

    async def load(self, name: str, config: str | None = None) -> None:
        """Load an entry, or what has changed of it. What is served goes on until what replaces it is ready.

        Args:
            name: The entry.
            config: A configuration as JSON, in the place of the entry's file.

        Raises:
            ServingError: When there is no such entry, or a version of it cannot be loaded.
        """
        if not self._has(name):
            raise ServingError(f"failed to load '{name}': the repository has no such entry", Status.NOT_FOUND)
        async with self._locks.setdefault(name, asyncio.Lock()):
            await self._load(self.models.setdefault(name, ServedModel(name)), config)

    async def _load(self, model: ServedModel, given: str | None) -> None:
        stamps = self._stamps(model.name)
        try:
            config = self.config(model.name) if given is None else configs.from_json(given, model.name)
            if configs.is_ensemble(config):
                self._check_steps(config)
                model.labels = labels(config, self._folder(model.name), self._root)
                model.config, model.stamps, model.reason, model.is_ensemble = config, stamps, "", True
                return
            files = self._files(model.name, config)
        except DlbridgeError as error:
            if given is None:
                model.reason, model.stamps = str(error), stamps
            raise ServingError(str(error), where=model.name) from error
        served = {v.version: v for v in model.ready()}
        unchanged = {n for n in files if n in served and is_same(stamps, model.stamps, n) and config == model.config}
        new = [
            ServedVersion(f, model.name, n, config, self._root, self._cache, self._worker)
            for n, f in files.items()
            if n not in unchanged
        ]
        await asyncio.gather(*(version.load() for version in new), return_exceptions=True)
        good = {v.version: v for v in new if v.state is State.READY}
        failed = {v.version: v for v in new if v.state is not State.READY}
        # where something fails, what is served stays: nobody who asks for the model sees the failure
        kept = served if failed else {n: served[n] for n in unchanged}
        model.config, model.reason, model.stamps, model.is_ensemble = config, "", stamps, False
        model.versions = {**kept, **good}
        model.failed = failed
        for version in served.values():
            if model.versions.get(version.version) is not version:
                self._retire(version)
        if failed:
            first = next(iter(failed.values()))
            raise ServingError(first.reason)

    def _check_steps(self, config: Any) -> None:
        """Check that the models of an ensemble are in the repository.

        Raises:
            FileError: When one is not.
        """
        names = self.names()
        for step in config.ensemble_scheduling.step:
            if step.model_name not in names:
                what = f"there is no model '{step.model_name}' in the repository, which a step of it runs"
                raise FileError(what, where=config.name, hint=suggest(step.model_name, names) or None)

    def _retire(self, version: ServedVersion) -> None:
        task = asyncio.get_running_loop().create_task(version.unload())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def unload(self, name: str, with_steps: bool = False) -> None:
        """Serve an entry no longer, after what is queued is answered.

        Args:
            name: The entry.
            with_steps: Whether the models of an ensemble are unloaded with it.

        Raises:
            ServingError: When there is no such entry.
        """
        model = self.model(name)
        steps = []
        async with self._locks.setdefault(name, asyncio.Lock()):
            if with_steps and model.is_ensemble:
                steps = sorted({step.model_name for step in model.config.ensemble_scheduling.step} & self.models.keys())
            await asyncio.gather(*(v.unload() for v in model.versions.values() if v.state is State.READY))
            model.config, model.reason, model.is_ensemble = None, "unloaded", False
        for step in steps:
            await self.unload(step, with_steps)

    async def forget(self, name: str) -> None:
        """Serve a model no longer whose entry is gone, after what is queued is answered."""
        await self.unload(name)
        del self.models[name]

    async def close(self) -> None:
        """End all workers; who waits for an answer is told that there is none."""
        served = [v for m in self.models.values() for v in m.versions.values()]
        await asyncio.gather(*(v.unload(0) for v in served if v.state in (State.READY, State.LOADING)))
        await asyncio.gather(*self._retiring)

    def changed(self) -> Iterator[str]:
        """The names of entries whose files are not what was loaded."""
        for name in self.names():
            model = self.models.get(name)
            if model is None or (model.reason != "unloaded" and model.stamps != self._stamps(name)):
                yield name

    def gone(self) -> set[str]:
        """The names of models whose entries are no longer there."""
        return {name for name, model in self.models.items() if model.reason != "unloaded"} - {*self.names()}

    # --- files ----------------------------------------------------------------------------------------------------

    def _files(self, name: str, config: Any) -> dict[int, Path]:
        """Version -> model file, of the versions that the configuration's policy asks for."""
        if self._single is not None:
            return {1: self._single}
        folder = self._folder(name)
        file = config.default_model_filename or MODEL_FILE
        there = {int(v.name): v / file for v in _versions(folder) if (v / file).is_file()}
        for path in there.values():
            if not self._is_inside(path):
                raise FileError("the file is a link that leaves the repository", where=str(path))
        if not there:
            raise FileError(f"there is no <version>/{file} in it", where=str(folder))
        policy = config.version_policy
        choice = policy.WhichOneof("policy_choice")
        if choice == "all":
            return there
        if choice == "specific":
            absent = [v for v in policy.specific.versions if v not in there]
            if absent:
                raise FileError(f"version_policy names version {absent[0]}, which is not there", where=str(folder))
            return {v: there[v] for v in policy.specific.versions}
        count = policy.latest.num_versions or 1
        return {v: there[v] for v in sorted(there)[-count:]}

    def _stamps(self, name: str) -> Stamps:
        """What tells whether the files of an entry have changed."""
        if self._single is not None:
            return stamps_of_file(self._single)
        folder = self._folder(name)
        return stamps_of_entry(folder, _versions(folder))


def _versions(folder: Path) -> list[Path]:
    """The version folders of an entry: those that are called by a number above 0."""
    return [p for p in folder.iterdir() if is_version(p.name) and p.is_dir()]
