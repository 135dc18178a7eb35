# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""`anomalyclip hub`: share a checkpoint, fetch one, describe it, deploy it."""

from pathlib import Path
from typing import Annotated

import typer

from .messages import quiet_transformers


hub = typer.Typer(help="Share models on the Hugging Face Hub, and deploy them.", no_args_is_help=True)

FolderArgument = Annotated[Path, typer.Argument(help="Folder of a checkpoint.", show_default=False)]
RepoArgument = Annotated[str, typer.Argument(help="Hub id, OWNER/NAME.", show_default=False)]
LicenceOption = Annotated[
    str | None, typer.Option(help="Of the weights, as the Hub writes it (mit, cc-by-nc-4.0, …).", show_default=False)
]
ResultsOption = Annotated[
    list[Path] | None, typer.Option(help="A results.json of `anomalyclip evaluate`; repeat for more.")
]
DatasetOption = Annotated[list[str] | None, typer.Option(help="Hub id of a data set learned on; repeat for more.")]
CodeOption = Annotated[
    bool, typer.Option("--include-code", help="Put the model's code along, for use with transformers alone.")
]


@hub.command()
def push(
    folder: FolderArgument,
    repo: RepoArgument,
    private: Annotated[bool | None, typer.Option(help="Of a new repository; default: as its owner has set.")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch; made where missing; default: main.")] = None,
    subfolder: Annotated[str | None, typer.Option(help="Folder in the repository.")] = None,
    tag: Annotated[str | None, typer.Option(help="Name the commit, v1.0 for instance.")] = None,
    message: Annotated[str | None, typer.Option(help="Title of the commit.")] = None,
    create_pr: Annotated[bool, typer.Option("--create-pr", help="Propose it as a pull request.")] = False,
    include_code: CodeOption = False,
) -> None:
    """Upload a checkpoint, whole or prompts only, in one commit; a folder without a model card gets one.

    The token is that of `hf auth login`, or HF_TOKEN in the environment. A push that was cut goes on where it was when
    the same command is given again.
    """
    from huggingface_hub import HfApi

    from ..hub_files_anomalyclip import broken_connections
    from ..sharing.folders import CheckpointFolder

    quiet_transformers()
    places = {"revision": revision, "subfolder": subfolder, "create_pr": create_pr}
    commit = CheckpointFolder(folder).push_to_hub(
        repo, private=private, commit_message=message, include_code=include_code, **places
    )
    if tag:
        with broken_connections(f"tagging {repo}"):
            HfApi().create_tag(commit.repo_url.repo_id, tag=tag, revision=commit.oid)
    typer.echo(f"Pushed: {commit.pr_url or commit.commit_url}")


@hub.command()
def pull(
    repo: RepoArgument,
    output_dir: Annotated[Path, typer.Option(help="New or empty folder.", show_default=False)],
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit; default: main.")] = None,
    subfolder: Annotated[str | None, typer.Option(help="Folder in the repository.")] = None,
) -> None:
    """Fetch a checkpoint into a folder that needs nothing else: a model without its CLIP gets it put in.

    Take the folder to a machine without a network, and load it there.
    """
    from ..sharing.folders import pull_checkpoint

    quiet_transformers()
    places = {"revision": revision, "subfolder": subfolder}
    pull_checkpoint(repo, output_dir, **{name: value for name, value in places.items() if value is not None})
    typer.echo(f"Written to {output_dir}; try it with `anomalyclip predict IMAGES --model {output_dir}`.")


@hub.command()
def card(
    folder: FolderArgument,
    repo: Annotated[str | None, typer.Option(help="Hub id under which it will be shared.")] = None,
    results: ResultsOption = None,
    licence: LicenceOption = None,
    dataset: DatasetOption = None,
    tag: Annotated[list[str] | None, typer.Option(help="For the Hub's search; repeat for more.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a README.md that is there.")] = False,
) -> None:
    """Write the model card of a checkpoint: what it is, its settings, figures, limits, licence, how to cite."""
    from ..sharing.model_card import write_model_card

    quiet_transformers()
    path = folder / "README.md"
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} is there already; --overwrite replaces it.")
    write_model_card(
        folder, repo_id=repo, results=results or (), licence=licence, datasets=dataset or (), tags=tag or ()
    )
    typer.echo(f"Written to {path}.")


@hub.command()
def export_space(
    output_dir: Annotated[Path, typer.Argument(help="New or empty folder.", show_default=False)],
    model: Annotated[
        str | None, typer.Option(help="Folder, which is copied in, or Hub id; default: the demonstration model.")
    ] = None,
) -> None:
    """Write a Gradio Space with the demo: run it with `python app.py`, push it with `hf upload --repo-type space`."""
    from ..serving.space import export_space as write_space

    write_space(output_dir, model)
    typer.echo(f"Written to {output_dir}; try it with `python {output_dir / 'app.py'}`.")


@hub.command()
def export_handler(folder: FolderArgument) -> None:
    """Put the handler of an Inference Endpoint into a checkpoint's folder, to be pushed with --include-code."""
    from ..serving.space import write_handler

    typer.echo(f"Written to {write_handler(folder)}; now `anomalyclip hub push {folder} OWNER/NAME --include-code`.")
