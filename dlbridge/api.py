"""The Python API: ``load``, ``convert``, ``train``, ``verify``. The command line says the same words."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlbridge import frameworks, precision
from dlbridge.errors import DlbridgeError, DlbridgeWarning, FileError
from dlbridge.files import check_free, check_writable, default_folder
from dlbridge.garbage import fewer_searches
from dlbridge.loading import load, load_other, of_others
from dlbridge.model import Model

if TYPE_CHECKING:
    from dlbridge.training import Result
    from dlbridge.verification import Report
    from dlbridge.verification.certificate import Certificate

__all__ = ["convert", "evaluate", "load", "predict", "pull", "train", "verify"]

#: What ``convert`` writes for people to read and change, without a framework.
DESCRIPTION = "description"
#: As ``output``: a folder in the current one that is called after the model and the framework.
BY_NAME = object()


@fewer_searches()
def convert(
    source: Any,
    to: str,
    output: Any = None,
    *,
    check: bool = True,
    force: bool = False,
    partial: bool = False,
    read: Mapping[str, Any] | None = None,
    into: str | os.PathLike[str] | None = None,
    processing: Any = None,
    dtype: str | None = None,
    quantize: str | None = None,
    keep_float32: Sequence[str] = (),
    calibrate: Any = None,
    task: str | None = None,
    **options: Any,
) -> Any:
    """Convert a model.

    Args:
        source: What :func:`load` takes.
        to: A framework, one of ``dlbridge.frameworks.names()``, or ``"description"``.
        output: Folder to write, or a single file: ``.onnx``, ``.keras``, ``.pt2``, ``.tflite``, which is read back and
            compared. Without it nothing is written.
        check: Run what was written and what was read on the same inputs, and put the result into ``certificate.json``.
            A description is compared with onnxruntime and the ONNX reference evaluator; an ONNX file made of it with
            the latter alone.
        force: Replace what is at ``output``.
        partial: Where the framework has that option: what is not supported becomes functions to be filled in, which
            raise when called (``Source.stand_ins``); a model that has such is not compared.
        read: The ``ReadOptions`` of the framework that reads.
        into: A repository of served models: what is written becomes the next version of the model's entry there.
        processing: What comes before the inputs and after the outputs in the graph of an ONNX file: what
            ``dlbridge.processing`` has, or a file of it. The model is compared with its original without it, and what
            is written with the standard's evaluator. Default: what the model was trained with (``Model.processing``).
        dtype: ``"float16"`` or ``"bfloat16"``: what an ONNX file computes in, apart from what needs float32. Inputs and
            outputs stay as they are.
        quantize: ``"int8"``, ``"int8-static"`` or ``"int4"`` (weights alone): what its weights become.
        keep_float32: Names of nodes and of blocks that keep their precision.
        calibrate: Data, as :func:`predict` takes it: the ranges of ``int8-static`` are taken from it, and what is lost
            by less precision is measured on it.
        task: What the model is to do: ``"generate"`` writes a model of transformers so that it takes and returns its
            cache, for a prompt and for steps; an encoder and its decoder become two graphs in the folder ``output``.
        options: The ``WriteOptions`` of the framework, e.g. ``opset=21`` for ONNX.

    Returns:
        The ``Source`` that was written (``.text`` is the code); for a description, the model. For a task with several
        graphs, a dict of them.

    Raises:
        DlbridgeError: When there is no such framework, it takes no such option, or is not served and ``into`` is given.
        VerificationError: When the written model does not agree, or cannot be built or run; nothing is written then.
        FileError: When ``output`` exists and ``force`` is not set.
    """
    if task is not None:
        from dlbridge import tasks

        given = {"check": check, "partial": partial, "into": into, "processing": processing, **options}
        given |= {"dtype": dtype, "quantize": quantize, "keep_float32": keep_float32, "calibrate": calibrate}
        return tasks.convert(source, to, output, task=task, read=read, force=force, **given)
    if output is not None and output is not BY_NAME:
        check_free(output, force=force)
        if to != DESCRIPTION:
            frameworks.get(to).check_target(Path(output))
    if into is not None:
        check_served(to)
        check_writable(into)
    if processing is not None and to != frameworks.STANDARD:
        raise DlbridgeError(f"a processing is put into ONNX files alone, not into '{to}'")
    if isinstance(processing, (str, os.PathLike)):
        from dlbridge.processing import load as read_processing

        processing = read_processing(processing)
    lossy = precision.recipe(to, dtype, quantize, keep_float32, calibrate)
    mode = {"partial": True} if partial else {}
    writing = {**options, **mode}
    if to != DESCRIPTION:
        frameworks.write_options(to, writing)
    elif writing:
        raise DlbridgeError(f"a description takes no option '{min(writing)}'")
    model = load(source, **{**(read or {}), **mode})
    if output is BY_NAME:
        output = check_free(default_folder(model.name, to), force=force)
    if to == DESCRIPTION:
        if output is not None:
            model.save(output, force=force)
        return model
    written: Any = model.write(to, **writing)
    check = check and not (partial and written.stand_ins)
    report, certificate = None, None
    if check:
        report, certificate = _certified(model, to, written, _request(source, read, to=to, options=options))
    if lossy is not None:
        from dlbridge.json_types import finite

        full, written = written, lossy.write(model, to, writing)
        if report is not None and certificate is not None:
            written.loss = lossy.loss(model, full, written, report.cases)
            certificate["loss"] = finite(written.loss.model_dump(mode="python"))
    if processing is None and model.processing is not None:
        if to == frameworks.STANDARD:
            processing = model.processing
        else:
            _warn_of_processing(model, to)
    if processing is not None:
        from dlbridge.processing import add

        whole, measured = add(model, processing), written
        written = whole.write(to, **writing)
        if certificate is not None:
            certificate["processing"] = _certified(whole, to, written)[1]
        if lossy is not None:
            written = lossy.write(whole, to, writing)
            written.loss = measured.loss
    if output is not None:
        frameworks.get(to).save(written, Path(output), certificate=certificate, force=force)
    if into is not None:
        frameworks.get(to).add_version(written, Path(into), certificate=certificate)
    return written


def _warn_of_processing(model: Model, to: str) -> None:
    prepared = [*model.processing.inputs, *model.processing.outputs]
    warnings.warn(
        f"how '{', '.join(prepared)}' of {model.name} was prepared to train is not in what is written for {to}; "
        "it takes data that is prepared already (an ONNX file has it in its graph)",
        DlbridgeWarning,
        stacklevel=3,
    )


def check_served(to: str) -> None:
    """Check that a repository of served models takes what is written for a framework.

    Raises:
        DlbridgeError: When it does not.
    """
    if to == DESCRIPTION or not frameworks.get(to).is_served:
        raise DlbridgeError(f"a repository holds ONNX models, '{to}' is not served", hint="convert it to 'onnx'")


def _certified(
    model: Model, to: str, written: Any, request: Mapping[str, Any] | None = None
) -> tuple[Report, dict[str, Any]]:
    """Compare what was written with what was read, or with the standard's evaluator; the certificate as JSON types.

    Raises:
        VerificationError: When they do not agree, or what was written cannot be run.
    """
    from dlbridge.verification import verify as run_checks
    from dlbridge.verification.certificate import Request, certify

    report = run_checks(model, routes=[to], written={to: written}, battery="quick", thorough=False)
    report.require()
    return report, certify(report, Request(**(request or {})))


def _request(source: Any, read: Mapping[str, Any] | None, **more: Any) -> dict[str, Any]:
    """What was asked, as JSON types, for the certificate: what cannot be found again is left out."""
    is_found = isinstance(source, (str, os.PathLike))
    reading = {name: str(value) if isinstance(value, os.PathLike) else value for name, value in (read or {}).items()}
    texts = {name: value for name, value in {"read": reading, **more}.items() if _is_json(value)}
    return {"source": str(source) if is_found else None, **texts}


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def train(source: Any, data: Any, *, framework: str | None = None, spec: Any = None, **options: Any) -> Result:
    """Train a model in a framework. The trained weights are in ``result.model``.

    Args:
        source: What :func:`load` takes.
        data: Arrays by name, a ``.npz``, CSV or Parquet file, a data frame, a folder of images, a ``Dataset``, a
            ``DataLoader``, a ``tf.data.Dataset``, a function that returns a generator; see docs/training.md.
        framework: One of ``dlbridge.frameworks.trainers()``, the first that is installed when None; the result is the
            same.
        spec: A ``TrainingSpec``, or its settings as a dict; the model's own when None.
        options: See ``dlbridge.training``.

    Raises:
        TrainingError: When there is no training specification, or the data do not fit it.
    """
    from dlbridge import training

    return training.train(load(source), data, framework=framework, spec=spec, **options)


def evaluate(
    source: Any, data: Any, *, framework: str | None = None, spec: Any = None, read: Mapping[str, Any] | None = None
) -> dict[str, float]:
    """Measure a model on data: its loss and its metrics, by the same definitions as in training.

    Args:
        source: What :func:`load` takes: a trained folder, a file, a live model.
        data: What :func:`train` takes; all its rows are measured.
        framework: What runs the model, one of ``dlbridge.frameworks.names()``; onnxruntime when None.
        spec: A ``TrainingSpec`` with the losses and metrics; the model's own when None.
        read: The ``ReadOptions`` of the framework that reads.

    Raises:
        TrainingError: When nothing says what to measure, or the data do not fit it.
    """
    from dlbridge import training

    return training.evaluate(load(source, **(read or {})), data, framework=framework, spec=spec)


def predict(
    source: Any,
    data: Any,
    *,
    framework: str | None = None,
    batch_size: int = 32,
    read: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What a model says of data: arrays by output name, a row for each row.

    Args:
        source: What :func:`load` takes: a trained folder, a file, a live model.
        data: Arrays by input name, or a ``.npz``, ``.npy``, CSV or Parquet file, or images.
        framework: What runs the model, one of ``dlbridge.frameworks.names()``; onnxruntime when None.
        batch_size: The rows that the model is given at a time.
        read: The ``ReadOptions`` of the framework that reads.

    Raises:
        TrainingError: When the data has nothing for an input.
        SignatureError: When the data do not fit the model.
    """
    from dlbridge import training

    model = load(source, **(read or {}))
    return training.predict(model, data, framework=framework, batch_size=batch_size)


def pull(live: Any) -> Model:
    """The model that a live one was written from, with the weights that the live one has now.

    A model that ``to_pytorch()``, ``to_keras()`` or ``to("nnx")`` gave may be trained or changed by code of one's own;
    this brings its weights back, under the model's own names and in its own layout.

    Args:
        live: What ``Model.to`` gave, or a deep copy of it.

    Raises:
        DlbridgeError: When the live model was not written by dlbridge.
        WeightsError: When a weight has another shape or dtype than it had.
    """
    source = getattr(live, "dlbridge_source", None)
    if source is None or source.origin is None:
        raise DlbridgeError(
            f"this {type(live).__name__} was not written by dlbridge, so that its weights have no names here",
            hint="dlbridge.load reads it as a model of its own",
        )
    model: Model = source.origin.clone()
    model.set_weights(source.initializers(frameworks.get(source.framework).weights(live)))
    return model


def verify(source: Any, *others: Any, read: Mapping[str, Any] | None = None, **options: Any) -> Report:
    """Show that models compute the same, judged by the first one in float64.

    Without ``others``, the model is run by every route: in each framework, and through each exporter. With them, they
    are run as they are.

    Example:
        >>> dlbridge.verify("model.onnx").require()                             # doctest: +SKIP
        >>> dlbridge.verify(module, "model.onnx", "converted/", read=inputs)    # doctest: +SKIP

    Args:
        source: What :func:`load` takes.
        others: Models that should compute the same: what :func:`load` takes, a ``Source``, or a folder that a source
            was saved to, whose ``model.py`` is executed. Their names in the report are what they were called here.
        read: The ``ReadOptions`` of the framework that reads.
        options: See ``dlbridge.verification.verify``.

    Raises:
        SignatureError: When inputs or outputs of another model cannot be matched with the first one's.
        DlbridgeError: When a model cannot be read, or the judge cannot run.
    """
    from dlbridge.verification import verify as run_checks
    from dlbridge.verification.departures.redrawn import explain

    reading = dict(read or {})
    model = source if isinstance(source, Model) else load(source, **reading)
    named: dict[str, Any] = {}
    for position, other in enumerate(others, 2):
        named[_title(other, position)] = load_other(other, of_others(reading))
    report = run_checks(model, others=named or None, **options)
    explain(report, source, others, reading)
    return report


def certificate(
    report: Report, source: Any, others: Sequence[Any] = (), read: Mapping[str, Any] | None = None, options: Any = None
) -> str:
    """The certificate of a report, as the text of a JSON file.

    Args:
        report: What :func:`verify` returned.
        source: The model that was verified; a path or a name is kept, so that :func:`check` finds it again.
        others: The other models.
        read: The options of reading.
        options: The options of the verification.
    """
    from dlbridge.verification.certificate import Request, certify, dumps

    plain = {
        name: asdict(v) if is_dataclass(v) and not isinstance(v, type) else v
        for name, v in (options or {}).items()
        if v not in (None, {})
    }
    asked = _request(source, read, others=[str(other) for other in others], options=plain)
    return dumps(certify(report, Request(**asked)))


def check(certificate: str | os.PathLike[str], *models: Any) -> tuple[Certificate, list[str]]:
    """Verify again what a certificate says.

    Args:
        certificate: The file.
        models: The models, where the certificate does not say where they are, or where they are elsewhere now.

    Returns:
        The certificate now, and what has changed, as sentences.

    Raises:
        FileError: When the file is no certificate, or does not say which model it is of.
    """
    from dlbridge.verification import verify as run_checks
    from dlbridge.verification.certificate import Certificate, certify, changes
    from dlbridge.verification.certificate import read as read_certificate
    from dlbridge.verification.measure import Tolerance
    from dlbridge.verification.others import Matching

    before = read_certificate(certificate)
    asked = before.request
    source = models[0] if models else asked.source
    if source is None:
        hint = "name it: dlbridge verify MODEL --check CERTIFICATE"
        raise FileError("the certificate is of a model in memory", where=str(certificate), hint=hint)
    if asked.to is not None:
        model = load(source, **asked.read)
        written = model.write(asked.to, **asked.options)
        report = run_checks(model, routes=[asked.to], written={asked.to: written}, battery="quick", thorough=False)
    else:
        options = dict(asked.options)
        if "matching" in options:
            options["matching"] = Matching(**options["matching"])
        if "tolerance" in options:
            options["tolerance"] = Tolerance(**options["tolerance"])
        report = verify(source, *(models[1:] or asked.others), read=asked.read, **options)
    now = Certificate.model_validate(certify(report, asked))
    return now, changes(before, now)


def _title(other: Any, position: int) -> str:
    """What reports call another model."""
    if isinstance(other, (str, os.PathLike)):
        return str(other)
    return f"{getattr(other, 'framework', type(other).__name__)} (model {position})"
