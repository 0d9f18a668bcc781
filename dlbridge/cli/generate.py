"""``dlbridge generate``: continues a text or a list of tokens, with onnxruntime alone."""

from __future__ import annotations

from typing import Any

import click

from dlbridge.cli.common import json_option, print_json, running_options


def _tokens(ctx: click.Context, flag: click.Parameter, texts: tuple[str, ...]) -> list[list[int]]:
    try:
        return [[int(token) for token in text.replace(",", " ").split()] for text in texts]
    except ValueError:
        raise click.BadParameter("tokens are whole numbers: '1,15,27'", ctx=ctx, param=flag) from None


@click.command(short_help="Continue a text or tokens with a model written to generate.")
@click.argument("model", type=click.Path(exists=True))
@click.option("--prompt", "texts", multiple=True, metavar="TEXT", help="A text; needs a tokenizer.json with MODEL.")
@click.option("--tokens", "rows", multiple=True, callback=_tokens, metavar="1,15,27", help="Tokens instead of a text.")
@click.option("--input", "source", type=click.Path(exists=True), help="What the encoder gets, a .npz file by name.")
@click.option("--max-tokens", default=64, show_default=True, type=click.IntRange(1), help="How many at most.")
@click.option("--stop", multiple=True, type=int, metavar="TOKEN", help="A token that ends it [default: the model's].")
@click.option("--temperature", default=0.0, show_default=True, help="0 takes the most probable token.")
@click.option("--top-k", type=int, help="Draw among so many of the most probable tokens.")
@click.option("--top-p", type=float, help="Draw among the most probable tokens with this share of the probability.")
@click.option("--seed", type=int, help="Of the random numbers.")
@click.option("--tokenizer", "tokenizer_file", type=click.Path(exists=True), help="A tokenizer.json elsewhere.")
@running_options
@json_option
def command(
    model: str,
    texts: tuple[str, ...],
    rows: list[list[int]],
    source: str | None,
    stop: tuple[int, ...],
    tokenizer_file: str | None,
    providers: tuple[str, ...],
    threads: int | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Generate with MODEL, written by 'dlbridge convert --task generate --to onnx': a .onnx file, an entry, or the
    folder of an encoder and a decoder."""
    from dlbridge import npz
    from dlbridge.runtime import generator
    from dlbridge.runtime.text import Tokenizer, find_tokenizer

    if bool(texts) and bool(rows):
        raise click.UsageError("give --prompt or --tokens, not both")
    if not texts and not rows and source is None:
        raise click.UsageError("give --prompt TEXT or --tokens 1,15,27")
    found = tokenizer_file or find_tokenizer(model)
    if texts and found is None:
        raise click.UsageError(f"there is no tokenizer.json with {model}: give --tokenizer FILE, or --tokens")
    tokenizer = Tokenizer(found) if found is not None and texts else None
    options["stop"] = stop or None
    if source is not None:
        options["encoder"] = npz.read(source)
        rows = rows or [[] for _ in next(iter(options["encoder"].values()))]
    prompts = [tokenizer.encode(text) for text in texts] if tokenizer is not None else rows
    opened = generator(model, providers=providers, threads=threads)
    if len(prompts) == 1 and not as_json:
        stream = (token for (token,) in opened.stream(prompts, **options) if token is not None)
        pieces = tokenizer.pieces(stream) if tokenizer is not None else (f"{token} " for token in stream)
        for piece in pieces:
            click.echo(piece, nl=False)
        click.echo()
        return
    made = opened.generate(prompts, **options)
    decoded = [tokenizer.decode(tokens) for tokens in made] if tokenizer is not None else None
    if as_json:
        print_json({"tokens": made, **({"texts": decoded} if decoded is not None else {})})
        return
    for line in decoded if decoded is not None else [" ".join(map(str, tokens)) for tokens in made]:
        click.echo(line)
