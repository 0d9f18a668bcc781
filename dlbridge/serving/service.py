"""What the server does, whichever protocol asks: inference, metadata, statistics, the repository."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from dlbridge import __version__
from dlbridge.serving import classification, ensembles, ports
from dlbridge.serving.frames import Named
from dlbridge.serving.observer import Observer
from dlbridge.serving.problems import ServingError, Status
from dlbridge.serving.repository import Repository, ServedModel
from dlbridge.serving.requests import InferRequest, InferResponse, Wanted
from dlbridge.serving.scheduler import Answer
from dlbridge.serving.shared_memory import SharedMemory
from dlbridge.serving.tensors import Tensor, check_size
from dlbridge.serving.versions import ServedVersion, State

LOG = logging.getLogger("dlbridge.serving")
#: Called once with the answer to a request, or why there is none.
Finish = Callable[[InferResponse | ServingError], None]
#: The name of an image that came by itself.
_ONLY = ""
NAME = "dlbridge"
#: Shapes of an input whose sizes are remembered.
_REMEMBERED_SHAPES = 256
EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "model_repository(unload_dependents)",
    "schedule_policy",
    "statistics",
)


class Service:
    """Answers requests from the models of a repository.

    Args:
        repository: The models.
        shares_memory: Whether clients may leave tensors in shared memory.
        observer: Tells of requests; nothing is told when None.
    """

    def __init__(self, repository: Repository, shares_memory: bool = False, observer: Observer | None = None) -> None:
        self.repository = repository
        self.observer = observer or Observer()
        self.memory = SharedMemory(shares_memory)
        self.is_draining = False
        self.started = time.time()

    def check_room(self, name: str) -> None:
        """Check that there is a model and its queue has room, before a request for it is looked at.

        Raises:
            ServingError: When there is none, or it has none.
        """
        newest = self.repository.model(name).newest()
        if newest is not None:
            newest.scheduler.check_room()

    # --- inference ------------------------------------------------------------------------------------------------

    async def infer(self, request: InferRequest) -> InferResponse:
        """Run a model.

        Raises:
            ServingError: When there is no such model, the tensors do not fit it, or it cannot run now.
        """
        answer: asyncio.Future[InferResponse] = asyncio.get_running_loop().create_future()

        def finish(found: InferResponse | ServingError) -> None:
            if answer.done():
                return
            if isinstance(found, ServingError):
                answer.set_exception(found)
            else:
                answer.set_result(found)

        withdraw = self.submit(request, finish)
        try:
            return await answer
        finally:
            withdraw()

    def submit(self, request: InferRequest, finish: Finish) -> Callable[[], object]:
        """Queue a request.

        Args:
            request: What is asked.
            finish: Called once, later, with the answer, or with why there is none.

        Returns:
            What withdraws it, when nobody waits for its answer any more.

        Raises:
            ServingError: When there is no such model, the tensors do not fit it, or it cannot run now.
        """
        model = self.repository.model(request.model)
        if model.is_ensemble:
            return ensembles.submit(self, model, request, finish)
        version = self.repository.version(request.model, request.version)
        scheduler = version.scheduler
        inputs, rows = _fitted(version, request.inputs)
        wanted = None if request.outputs is None else _wanted(version, request.outputs)

        def answered(found: Answer | ServingError) -> None:
            if isinstance(found, ServingError):
                finish(found)
                return
            try:
                response = _response(version, request, found)
            except ServingError as error:
                finish(error)
                return
            except Exception:  # whoever asked is told, whatever went wrong; the worker has nothing to do with it
                LOG.exception("an answer could not be made")
                finish(ServingError("the server could not answer", Status.INTERNAL, where=version.label))
                return
            finish(response)

        pending = scheduler.submit(inputs, wanted, rows, answered, request.priority, request.timeout)
        return functools.partial(scheduler.withdraw, pending)

    async def load(self, name: str, parameters: Mapping[str, Any]) -> None:
        """Load a model, or what has changed of it.

        Args:
            name: The model.
            parameters: ``config``: a configuration as JSON, in the place of the file's until the model is loaded again.

        Raises:
            ServingError: When it cannot be loaded, or is to be loaded with other files than the repository's.
        """
        config = parameters.get("config")
        if config is not None and not isinstance(config, str):
            raise ServingError("the parameter 'config' is no text of JSON", where=name)
        other = next((key for key in sorted(parameters) if key != "config"), None)
        if other is not None:
            raise ServingError(
                f"a model is loaded from the repository's files, '{other}' is not taken",
                Status.UNIMPLEMENTED,
                where=name,
                hint="put the file into the repository, and load the model then" if other.startswith("file:") else None,
            )
        await self.repository.load(name, config)

    async def unload(self, name: str, parameters: Mapping[str, Any]) -> None:
        """Serve a model no longer.

        Args:
            name: The model.
            parameters: ``unload_dependents``: whether the models of an ensemble are unloaded with it.

        Raises:
            ServingError: When there is no such model.
        """
        await self.repository.unload(name, parameters.get("unload_dependents") is True)

    # --- what there is --------------------------------------------------------------------------------------------

    @property
    def is_ready(self) -> bool:
        """Whether requests are taken: no model is being loaded for the first time, and the server is not ending."""
        return not self.is_draining

    def metadata(self) -> dict[str, Any]:
        """The server's own metadata."""
        extensions = [*EXTENSIONS, "system_shared_memory"] if self.memory.is_allowed else list(EXTENSIONS)
        return {"name": NAME, "version": __version__, "extensions": extensions}

    def is_model_ready(self, name: str, version: str = "") -> bool:
        """Whether a model can be asked now; of an encoder with its decoder, whether both can."""
        decoder, encoder = self.repository.parts(name)
        if encoder is not None:
            return self.is_model_ready(decoder, version) and self.is_model_ready(encoder, version)
        model = self.repository.model(name)
        if model.is_ensemble:
            return all(self.is_model_ready(step.model_name) for step in model.config.ensemble_scheduling.step)
        return self.repository.version(name, version).state is State.READY

    def model_metadata(self, name: str, version: str = "") -> dict[str, Any]:
        """A model's inputs and outputs as the protocol shows them."""
        model, config = self._config(name, version)
        versions = ["1"] if model.is_ensemble else [str(v.version) for v in model.ready()]
        rows = [-1] if config.max_batch_size > 0 else []
        return {
            "name": name,
            "versions": versions,
            "platform": config.platform,
            "inputs": [ports.metadata(p, rows) for p in config.input],
            "outputs": [ports.metadata(p, rows) for p in config.output],
        }

    def config(self, name: str, version: str = "") -> Any:
        """A model's completed ``ModelConfig``."""
        return self._config(name, version)[1]

    def _config(self, name: str, version: str) -> tuple[ServedModel, Any]:
        model = self.repository.model(name)
        if model.is_ensemble:
            return model, model.config
        return model, self.repository.version(name, version).config

    def versions(self, name: str = "", version: str = "") -> list[ServedVersion]:
        """The versions that are ready, of one model or of all."""
        if name:
            model = self.repository.model(name)
            return [self.repository.version(name, version)] if version else model.ready()
        return [v for _, model in sorted(self.repository.models.items()) for v in model.ready()]

    def index(self, only_ready: bool = False) -> list[dict[str, str]]:
        """What the repository holds: name, version, state and reason of each version."""
        found = []
        models = self.repository.models
        for name in sorted({*self.repository.names(), *models}):
            model = models.get(name)
            if model is None:
                found.append({"name": name, "version": "", "state": "", "reason": "not loaded"})
                continue
            if model.is_ensemble:
                found.append({"name": name, "version": "1", "state": "READY", "reason": ""})
            for number, served in sorted({**model.failed, **model.versions}.items()):
                row = {"name": name, "version": str(number), "state": served.state.value, "reason": served.reason}
                found.append(row)
            if not model.versions and not model.failed and not model.is_ensemble:
                found.append({"name": name, "version": "", "state": "UNAVAILABLE", "reason": model.reason})
        return [row for row in found if row["state"] == "READY"] if only_ready else found


def _response(version: ServedVersion, request: InferRequest, answer: Answer) -> InferResponse:
    """The answer to a request.

    Raises:
        ServingError: When an output has no classes, or does not fit the memory that it is wanted in.
    """
    outputs = answer.outputs
    if version.reshapes:
        outputs = [_reshaped(version, name, tensor) for name, tensor in outputs]
    response = InferResponse(request.model, str(version.version), request.id, outputs)
    response.arrived, response.sent, response.answered = answer.arrived, answer.sent, answer.answered
    if request.outputs is not None:
        classification.deliver(response, request.outputs, version.labels, version.label)
    return response


def _reshaped(version: ServedVersion, name: str, tensor: Tensor) -> Named:
    reshape = version.reshapes.get(name)
    return name, tensor if reshape is None else reshape(tensor)


def _wanted(version: ServedVersion, outputs: Mapping[str, Wanted]) -> list[str]:
    known = [port.name for port in version.config.output]
    for name in outputs:
        if name not in known:
            raise ServingError(f"it has no output '{name}'; it has {', '.join(known)}", where=version.label)
    return list(outputs)


def _fitted(version: ServedVersion, given: Mapping[str, Tensor]) -> tuple[list[Named], int]:
    """The tensors of a request in the order of the model's inputs, and their rows.

    Raises:
        ServingError: When one is missing, unknown, of another type, or of a shape that the model does not take.
    """
    config = version.config
    if _ONLY in given:
        given = _named(given[_ONLY], version)
    inputs: list[Named] = []
    rows: int | None = None
    for port in version.ports:
        tensor = given.get(port.name)
        if tensor is None:
            raise ServingError("no tensor came for it", where=_where(version, port))
        if port.sizes.get((tensor.datatype, tensor.shape)) != len(tensor.data):
            _check(tensor, port, version)
        if port.has_rows:
            if rows is not None and rows != tensor.shape[0]:
                what = f"it has {tensor.shape[0]} rows, another input has {rows}"
                raise ServingError(what, where=_where(version, port))
            rows = tensor.shape[0]
        inputs.append(_reshaped(version, port.name, tensor) if version.reshapes else (port.name, tensor))
    if len(given) > len(inputs):
        unknown = next(name for name in given if name not in {port.name for port in version.ports})
        known = ", ".join(port.name for port in version.ports)
        raise ServingError(f"it has no input '{unknown}'; it has {known or 'none'}", where=version.label)
    if rows is not None and not 0 < rows <= config.max_batch_size:
        raise ServingError(f"{rows} rows came, it takes from 1 to {config.max_batch_size}", where=version.label)
    return inputs, 1 if rows is None else rows


def _check(tensor: Tensor, port: ports.Port, version: ServedVersion) -> None:
    """Check that a tensor fits an input; of what fits, the size is remembered.

    Raises:
        ServingError: When it does not.
    """
    where = _where(version, port)
    if tensor.datatype == "BYTES" and port.takes_images:
        if len(tensor.shape) != 1:
            raise ServingError(f"images come as BYTES of one axis, {list(tensor.shape)} came", where=where)
        check_size(tensor, where)
        return
    if tensor.datatype != port.datatype:
        raise ServingError(f"it takes {port.datatype}, {tensor.datatype} came", where=where)
    if not port.accepts(tensor.shape):
        raise ServingError(f"it takes the shape {port.shape}, {list(tensor.shape)} came", where=where)
    check_size(tensor, where)
    if tensor.datatype != "BYTES" and len(port.sizes) < _REMEMBERED_SHAPES:
        port.sizes[tensor.datatype, tensor.shape] = len(tensor.data)


def _named(tensor: Tensor, version: ServedVersion) -> dict[str, Tensor]:
    """An image that came without a name, by the name of the model's one input.

    Raises:
        ServingError: When the model does not take one image.
    """
    if len(version.ports) != 1 or not version.ports[0].takes_images:
        raise ServingError("it takes no single image", where=version.label)
    return {version.ports[0].name: tensor}


def _where(version: ServedVersion, port: ports.Port) -> str:
    return f"input '{port.name}' of {version.label}"
