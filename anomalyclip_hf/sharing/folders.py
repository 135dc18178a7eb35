# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""A checkpoint's folder to the Hub, and a checkpoint of the Hub into a folder that needs no other."""

import fnmatch
import os
import shutil
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo

from ..configuration_anomalyclip import AnomalyCLIPConfig
from ..io.atomic import atomic_folder
from ..modeling_anomalyclip import AnomalyCLIPModel
from ..processing_anomalyclip import AnomalyCLIPProcessor
from ..sharing_anomalyclip import CARD_NAME, CODE_FILES, WEIGHT_FILES, HubSharing, add_code
from .model_card import TRAINING_FILE, write_model_card


# What belongs to a checkpoint; states of optimisers, cached features and reports stay where they are.
SHARED_FILES = (
    *("config.json", "processor_config.json", CARD_NAME, TRAINING_FILE, *WEIGHT_FILES, *CODE_FILES),
    *("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "special_tokens_map.json"),
    *("handler.py", "requirements.txt"),
)


class CheckpointFolder(HubSharing):
    """A saved checkpoint, to be shared as it lies on disk.

    Args:
        folder (`str` or `os.PathLike`): Written by `save_pretrained`, `anomalyclip convert` or `anomalyclip train`.

    Raises:
        OSError: If there is no such folder, or no `config.json` in it.
        ValueError: If it holds no weights, or settings that make no sense.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise FileNotFoundError(f"{self.folder} is no folder; expected one that save_pretrained has written.")
        AnomalyCLIPConfig.from_pretrained(self.folder)
        self.files = [path for path in sorted(self.folder.iterdir()) if _matches(path.name, SHARED_FILES)]
        if not any(_matches(path.name, WEIGHT_FILES) for path in self.files):
            raise ValueError(f"{self.folder} holds no weights; expected one of {', '.join(WEIGHT_FILES)}.")

    def save_pretrained(self, save_directory: str | os.PathLike, include_code: bool = False) -> None:
        """Gather in another folder what of this one belongs to the checkpoint.

        Args:
            save_directory (`str` or `os.PathLike`): Exists.
            include_code (`bool`, *optional*, defaults to `False`): Put the model's code beside it.
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
        """As [`HubSharing.push_to_hub`]; a folder without a model card gets one.

        Args:
            repo_id (`str`): Of the repository.
            commit_message (`str`, *optional*): Default: "Upload" and the name of the folder.
            **kwargs: As there; `include_code=True` among them.

        Returns:
            [`~huggingface_hub.CommitInfo`]
        """
        if not (self.folder / CARD_NAME).exists():
            write_model_card(self.folder, repo_id=repo_id)
            self.files.append(self.folder / CARD_NAME)
        commit_message = commit_message or f"Upload {self.folder.resolve().name}"
        return super().push_to_hub(repo_id, commit_message=commit_message, **kwargs)


def pull_checkpoint(repo_id: str, folder: str | os.PathLike, **hub_arguments: Any) -> AnomalyCLIPModel:
    """Fetch a checkpoint with everything it needs, and write it as a whole model that loads without a network.

    Args:
        repo_id (`str`): Of a checkpoint on the Hub, whole or prompts only; of the latter the CLIP is fetched as well.
        folder (`str` or `os.PathLike`): New or empty; it appears whole or not at all.
        **hub_arguments: `revision`, `subfolder`, `token` and what else `from_pretrained` takes.

    Returns:
        [`AnomalyCLIPModel`]: as it was fetched.

    Raises:
        FileExistsError: If the folder is not empty.
        OSError: If the checkpoint cannot be fetched.
    """
    with atomic_folder(Path(folder)) as partial:
        model = AnomalyCLIPModel.from_pretrained(repo_id, **hub_arguments)
        AnomalyCLIPProcessor.from_pretrained(repo_id, **hub_arguments).save_pretrained(partial)
        model.save_pretrained(partial)
    return model


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _link(path: Path, link: Path) -> None:
    """Spare a copy of gigabytes where the system can link."""
    try:
        link.symlink_to(path.resolve())
    except OSError:
        shutil.copyfile(path, link)
