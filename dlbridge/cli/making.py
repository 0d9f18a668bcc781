"""The options of a MODEL that belong to no framework: how a function or class makes it, what its inputs are called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from dlbridge import factories

#: Key of ``ctx.meta``: keyword argument of ``dlbridge.load`` -> its value.
_GIVEN = "dlbridge.cli.making.given"


def _kept(ctx: click.Context) -> dict[str, Any]:
    found: dict[str, Any] = ctx.meta.setdefault(_GIVEN, {})
    return found


def _arguments(ctx: click.Context) -> dict[str, Any]:
    found: dict[str, Any] = _kept(ctx).setdefault("arguments", {})
    return found


def _keep_config(ctx: click.Context, flag: click.Parameter, path: str | None) -> None:
    if path is not None:
        _arguments(ctx).update({**factories.read_arguments(path), **_arguments(ctx)})


def _keep_arguments(ctx: click.Context, flag: click.Parameter, texts: tuple[str, ...]) -> None:
    try:
        _arguments(ctx).update(factories.parse_arguments(texts))
    except ValueError as error:
        raise click.BadParameter(str(error), ctx=ctx, param=flag) from None


def _keep_names(ctx: click.Context, flag: click.Parameter, texts: tuple[str, ...]) -> None:
    from dlbridge.renaming import parse_names

    try:
        _kept(ctx)["rename"] = parse_names(texts) if texts else {}
    except ValueError as error:
        raise click.BadParameter(str(error), ctx=ctx, param=flag) from None


def _keep_value(ctx: click.Context, flag: click.Parameter, value: Any) -> None:
    if value is not None:
        _kept(ctx)[str(flag.name)] = value


def _option(flag: str, callback: Callable[..., None], help: str, **how: Any) -> click.Option:
    return click.Option([flag], expose_value=False, callback=callback, help=help, **how)


def options() -> list[click.Option]:
    """The options, anew: their values are not passed to the command's function, :func:`given` returns them."""
    return [
        _option(
            "--arg",
            _keep_arguments,
            "An argument of the function or class that MODEL names; the value is JSON or text: 'hidden=64'.",
            multiple=True,
            metavar="NAME=VALUE",
        ),
        _option(
            "--config", _keep_config, "Its arguments from a YAML or JSON file; --arg goes before it.", metavar="FILE"
        ),
        _option(
            "--weights",
            _keep_value,
            "Its weights: a state dict or checkpoint (.pt, .pth, .bin, .ckpt), .safetensors, .npz, .index.json, "
            ".weights.h5.",
            metavar="FILE",
        ),
        _option(
            "--strict/--no-strict",
            _keep_value,
            "Whether --weights must have the model's weights and no others (the default).",
            default=None,
        ),
        _option(
            "--rename",
            _keep_names,
            "Another name for an input or output of MODEL.",
            multiple=True,
            metavar="OLD=NEW",
        ),
    ]


def given(ctx: click.Context) -> dict[str, Any]:
    """What was given, as keyword arguments of ``dlbridge.load``."""
    return {name: value for name, value in _kept(ctx).items() if value != {}}
