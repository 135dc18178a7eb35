# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Push the folder of a checkpoint to the Hub, and pull one from it."""

import fnmatch
import os
import shutil
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo, HfApi

from ..configuration_anomalyclip import AnomalyCLIPConfig
from ..io.atomic import atomic_folder
from ..loading_anomalyclip import (
    CARD_NAME,
    CODE_FILES,
    WEIGHT_FILES,
    HubSharing,
    add_code,
    broken_connections,
)
from ..modeling_anomalyclip import AnomalyCLIPModel
from ..processing_anomalyclip import AnomalyCLIPProcessor
from .model_card import TRAINING_FILE, write_model_card


# The files of a checkpoint. Optimizer states, cached features and reports stay on this machine.
SHARED_FILES = (
    *("config.json", "processor_config.json", CARD_NAME, TRAINING_FILE, *WEIGHT_FILES, *CODE_FILES),
    *("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "special_tokens_map.json"),
    *("handler.py", "requirements.txt"),
)


class CheckpointFolder(HubSharing):
    """The folder of a saved checkpoint, shared as it is on disk.

    Args:
        folder (`str` or `os.PathLike`): Written by `save_pretrained`, `anomalyclip convert` or `anomalyclip train`.

    Raises:
        OSError: If there is no such folder, or no `config.json` in it.
        ValueError: If it has no weights, or an invalid configuration.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise FileNotFoundError(f"{self.folder} is not a folder; expected one written by save_pretrained.")
        AnomalyCLIPConfig.from_pretrained(self.folder)
        self.files = [path for path in sorted(self.folder.iterdir()) if _matches(path.name, SHARED_FILES)]
        if not any(_matches(path.name, WEIGHT_FILES) for path in self.files):
            raise ValueError(f"{self.folder} has no weights; expected one of {', '.join(WEIGHT_FILES)}.")

    def save_pretrained(self, save_directory: str | os.PathLike, include_code: bool = False) -> None:
        """Copy the files of the checkpoint to another folder.

        Args:
            save_directory (`str` or `os.PathLike`): Existing folder.
            include_code (`bool`, *optional*, defaults to `False`): Add the model's code.
        """
        for path in self.files:
            copy = Path(save_directory) / path.name
            if _matches(path.name, WEIGHT_FILES):
                _link(path, copy)
            else:
                shutil.copyfile(path, copy)
        if include_code:
            add_code(save_directory)

    def push_to_hub(self, repo_id: str, *, commit_message: str | None = None, **kwargs: Any) -> CommitInfo:
        """Upload the checkpoint in one commit. A folder without a model card gets one.

        Args:
            repo_id (`str`): Hub id of the repository.
            commit_message (`str`, *optional*): Defaults to "Upload" and the name of the folder.
            **kwargs: As for [`HubSharing.push_to_hub`], including `include_code=True`.

        Returns:
            [`~huggingface_hub.CommitInfo`]
        """
        if not (self.folder / CARD_NAME).exists():
            write_model_card(self.folder, repo_id=repo_id)
            self.files.append(self.folder / CARD_NAME)
        commit_message = commit_message or f"Upload {self.folder.resolve().name}"
        return super().push_to_hub(repo_id, commit_message=commit_message, **kwargs)


def push_checkpoint(folder: str | os.PathLike, repo_id: str, *, tag: str | None = None, **kwargs: Any) -> CommitInfo:
    """Upload the folder of a checkpoint in one commit, and tag the commit.

    Args:
        folder (`str` or `os.PathLike`): Written by `save_pretrained`, `anomalyclip convert` or `anomalyclip train`.
        repo_id (`str`): Hub id of the repository, created if missing.
        tag (`str`, *optional*): Such as `"v1.0"`.
        **kwargs: As for [`HubSharing.push_to_hub`], including `include_code=True`.

    Returns:
        [`~huggingface_hub.CommitInfo`]

    Raises:
        OSError: If there is no such checkpoint, or the Hub cannot be reached.
        ValueError: If the folder has no weights, or prompts that refer to a CLIP on this machine.
    """
    commit = CheckpointFolder(folder).push_to_hub(repo_id, **kwargs)
    if tag:
        with broken_connections(f"tagging {repo_id}"):
            HfApi(token=kwargs.get("token")).create_tag(commit.repo_url.repo_id, tag=tag, revision=commit.oid)
    return commit


def pull_checkpoint(repo_id: str, folder: str | os.PathLike, **hub_arguments: Any) -> AnomalyCLIPModel:
    """Download a checkpoint and save it as a whole model that loads without a network.

    Args:
        repo_id (`str`): Hub id of a checkpoint. For a prompts-only checkpoint, its CLIP is downloaded too.
        folder (`str` or `os.PathLike`): New or empty folder. If anything fails, nothing is left behind.
        **hub_arguments: `revision`, `subfolder`, `token` and the other arguments of `from_pretrained`.

    Returns:
        [`AnomalyCLIPModel`]: The downloaded model.

    Raises:
        FileExistsError: If the folder is not empty.
        OSError: If the checkpoint cannot be downloaded.
    """
    with atomic_folder(Path(folder)) as partial:
        model = AnomalyCLIPModel.from_pretrained(repo_id, **hub_arguments)
        AnomalyCLIPProcessor.from_pretrained(repo_id, **hub_arguments).save_pretrained(partial)
        model.save_pretrained(partial)
    return model


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _link(path: Path, link: Path) -> None:
    """Link instead of copying gigabytes, where the system can."""
    try:
        link.symlink_to(path.resolve())
    except OSError:
        shutil.copyfile(path, link)
