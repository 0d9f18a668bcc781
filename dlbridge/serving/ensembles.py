"""Ensembles: models of the repository one after the other, as Triton's ``ensemble_scheduling`` describes it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dlbridge.serving.classification import deliver
from dlbridge.serving.frames import Named
from dlbridge.serving.ports import datatype
from dlbridge.serving.problems import ServingError, Status
from dlbridge.serving.requests import InferRequest, InferResponse
from dlbridge.serving.tensors import Tensor, check_size

if TYPE_CHECKING:
    from dlbridge.serving.repository import ServedModel
    from dlbridge.serving.service import Service

LOG = logging.getLogger("dlbridge.serving")
#: An ensemble may hold ensembles, so deep and no deeper.
MAX_DEPTH = 8


def submit(
    service: Service, model: ServedModel, request: InferRequest, finish: Callable[[InferResponse | ServingError], None]
) -> Callable[[], object]:
    """Begin with an ensemble; ``finish`` gets its answer. Returns what withdraws the request."""

    async def run() -> None:
        try:
            found: InferResponse | ServingError = await infer(service, model, request)
        except ServingError as error:
            found = error
        except Exception:  # whoever asked is told, whatever went wrong
            LOG.exception("an ensemble could not be run")
            found = ServingError("the server could not answer", Status.INTERNAL, where=model.name)
        finish(found)

    return asyncio.get_running_loop().create_task(run()).cancel


async def infer(service: Service, model: ServedModel, request: InferRequest, depth: int = 0) -> InferResponse:
    """Run the steps of an ensemble; a step runs as soon as what it reads is there.

    Raises:
        ServingError: When a tensor does not fit, a step fails, or no step makes what the ensemble returns.
    """
    if request.version not in ("", "1"):
        raise ServingError(f"there is no version {request.version} of it", Status.NOT_FOUND, where=model.name)
    if depth >= MAX_DEPTH:
        raise ServingError(f"ensembles are nested more than {MAX_DEPTH} deep", where=model.name)
    known = _inputs(model, request)
    names = [port.name for port in model.config.output]
    wanted = names if request.outputs is None else list(request.outputs)
    for name in wanted:
        if name not in names:
            raise ServingError(f"it has no output '{name}'; it has {', '.join(names)}", where=model.name)
    waiting = list(model.config.ensemble_scheduling.step)
    while waiting:
        ready = [step for step in waiting if all(tensor in known for tensor in step.input_map.values())]
        if not ready:
            missing = sorted({t for step in waiting for t in step.input_map.values()} - known.keys())
            raise ServingError(f"no step of the ensemble makes '{missing[0]}'", where=model.name)
        waiting = [step for step in waiting if step not in ready]
        answers = await asyncio.gather(*(_run(service, step, known, request, depth) for step in ready))
        for step, outputs in zip(ready, answers, strict=True):
            known |= {step.output_map[name]: tensor for name, tensor in outputs if name in step.output_map}
    absent = [name for name in wanted if name not in known]
    if absent:
        raise ServingError(f"no step of the ensemble makes its output '{absent[0]}'", where=model.name)
    response = InferResponse(model.name, "1", request.id, [(name, known[name]) for name in wanted])
    if request.outputs is not None:
        deliver(response, request.outputs, model.labels, model.name)
    return response


def _inputs(model: ServedModel, request: InferRequest) -> dict[str, Tensor]:
    """The tensors of a request, which are those that the ensemble takes and no others: a step could take them for
    another step's.

    Raises:
        ServingError: When one is missing, unknown, or of another type.
    """
    names = [port.name for port in model.config.input]
    unknown = next((name for name in request.inputs if name not in names), None)
    if unknown is not None:
        raise ServingError(f"it has no input '{unknown}'; it has {', '.join(names)}", where=model.name)
    for port in model.config.input:
        where = f"input '{port.name}' of {model.name}"
        tensor = request.inputs.get(port.name)
        if tensor is None:
            raise ServingError("no tensor came for it", where=where)
        if tensor.datatype != datatype(port):
            raise ServingError(f"it takes {datatype(port)}, {tensor.datatype} came", where=where)
        check_size(tensor, where)
    return dict(request.inputs)


async def _run(service: Service, step: Any, known: dict[str, Tensor], request: InferRequest, depth: int) -> list[Named]:
    inputs = {name: known[tensor] for name, tensor in step.input_map.items()}
    version = str(step.model_version) if step.model_version > 0 else ""
    inner = InferRequest(step.model_name, inputs, version, request.id, None, request.priority, request.timeout)
    model = service.repository.model(step.model_name)
    if model.is_ensemble:
        return (await infer(service, model, inner, depth + 1)).outputs
    return (await service.infer(inner)).outputs
