# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""`anomalyclip hub`: share, fetch, describe and deploy a model."""

from pathlib import Path
from typing import Annotated

import typer

from .messages import quiet_transformers
from .options import RuntimeOption


hub = typer.Typer(help="Share models on the Hugging Face Hub, and deploy them.", no_args_is_help=True)

FolderArgument = Annotated[Path, typer.Argument(help="Folder of a model.", show_default=False)]
RepoArgument = Annotated[str, typer.Argument(help="Hub id, OWNER/NAME.", show_default=False)]
LicenseOption = Annotated[
    str | None,
    typer.Option(help="License of the weights, as the Hub writes it: mit, cc-by-nc-4.0, ….", show_default=False),
]
ResultsOption = Annotated[
    list[Path] | None, typer.Option(help="A results.json of `anomalyclip evaluate`; repeat for more.")
]
DatasetOption = Annotated[list[str] | None, typer.Option(help="Hub id of a training dataset; repeat for more.")]
CodeOption = Annotated[
    bool, typer.Option("--include-code", help="Upload the model's code too, for use with transformers alone.")
]


@hub.command()
def push(
    folder: FolderArgument,
    repo: RepoArgument,
    private: Annotated[
        bool | None, typer.Option(help="Visibility of a new repository; default: the owner's setting.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, created if missing; default: main.")] = None,
    subfolder: Annotated[str | None, typer.Option(help="Folder in the repository.")] = None,
    tag: Annotated[str | None, typer.Option(help="Tag for the commit, such as v1.0.")] = None,
    message: Annotated[str | None, typer.Option(help="Title of the commit.")] = None,
    create_pr: Annotated[bool, typer.Option("--create-pr", help="Open a pull request.")] = False,
    include_code: CodeOption = False,
) -> None:
    """Upload a model, whole or prompts only, in one commit. A folder without a model card gets one.

    The token is that of `hf auth login`, or HF_TOKEN in the environment. If the connection breaks, run the command
    again: files that have arrived are not sent a second time.
    """
    from ..sharing.folders import push_checkpoint

    quiet_transformers()
    places = {"revision": revision, "subfolder": subfolder, "create_pr": create_pr}
    commit = push_checkpoint(
        folder, repo, private=private, tag=tag, commit_message=message, include_code=include_code, **places
    )
    typer.echo(f"Pushed: {commit.pr_url or commit.commit_url}")


@hub.command()
def pull(
    repo: RepoArgument,
    output_dir: Annotated[Path, typer.Option(help="New or empty folder.", show_default=False)],
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit; default: main.")] = None,
    subfolder: Annotated[str | None, typer.Option(help="Folder in the repository.")] = None,
) -> None:
    """Download a model as a folder that works without a network. Prompts are joined with their CLIP."""
    from ..sharing.folders import pull_checkpoint

    quiet_transformers()
    places = {"revision": revision, "subfolder": subfolder}
    pull_checkpoint(repo, output_dir, **{name: value for name, value in places.items() if value is not None})
    typer.echo(f"Written to {output_dir}; try it with `anomalyclip predict IMAGES --model {output_dir}`.")


@hub.command()
def card(
    folder: FolderArgument,
    repo: Annotated[str | None, typer.Option(help="Hub id of the model.")] = None,
    results: ResultsOption = None,
    license: LicenseOption = None,
    dataset: DatasetOption = None,
    tag: Annotated[list[str] | None, typer.Option(help="Tag for the Hub's search; repeat for more.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing README.md.")] = False,
) -> None:
    """Write the model card: description, settings, training, metrics, limits, license, citation."""
    from ..sharing.model_card import write_model_card

    quiet_transformers()
    write_model_card(
        folder,
        repo_id=repo,
        results=results or (),
        license=license,
        datasets=dataset or (),
        tags=tag or (),
        overwrite=overwrite,
    )
    typer.echo(f"Written to {folder / 'README.md'}.")


@hub.command()
def space(
    output_dir: Annotated[Path, typer.Argument(help="New or empty folder.", show_default=False)],
    model: Annotated[
        str | None, typer.Option(help="Folder, which is copied, or Hub id; default: the demonstration model.")
    ] = None,
    static: Annotated[
        bool, typer.Option("--static", help="A page that computes in the visitor's browser, without a server.")
    ] = False,
    runtime_dir: RuntimeOption = None,
) -> None:
    """Write a Space with the demo. Push it with `hf upload --repo-type space`.

    By default it is a Gradio Space; run it with `python app.py`. With --static it is the page of
    `anomalyclip export --to web`.
    """
    from ..serving.space import write_space, write_static_space

    if static:
        quiet_transformers()
        write_static_space(output_dir, model, runtime_dir)
        typer.echo(f"Written to {output_dir}; try it with `python -m http.server --directory {output_dir}`.")
        return
    if runtime_dir is not None:
        raise ValueError("--runtime-dir does not apply here: only --static has a runtime beside the model.")
    write_space(output_dir, model)
    typer.echo(f"Written to {output_dir}; try it with `python {output_dir / 'app.py'}`.")


@hub.command()
def handler(folder: FolderArgument) -> None:
    """Add the handler of an Inference Endpoint, and the model's code, to the folder of a model."""
    from ..serving.space import write_handler

    typer.echo(f"Written to {write_handler(folder)}; now run `anomalyclip hub push {folder} OWNER/NAME`.")
