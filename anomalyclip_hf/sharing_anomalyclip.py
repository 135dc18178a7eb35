# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Sharing on the Hub: one upload for model, processor and pipeline, and the code along with it when asked for."""

import fnmatch
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi, ModelCard, ModelCardData
from huggingface_hub.errors import EntryNotFoundError
from transformers.utils import CONFIG_NAME, PROCESSOR_NAME

from .checkpoints_anomalyclip import PROMPTS_FILE
from .hub_files_anomalyclip import broken_connections


TASK = "anomaly-detection"
CARD_NAME = "README.md"
CARD_TAGS = ("anomalyclip", "anomaly-detection", "zero-shot", "clip")
WEIGHT_FILES = (PROMPTS_FILE, "model*.safetensors", "model.safetensors.index.json")
CODE_FILES = (
    "limits_anomalyclip.py",
    "hub_files_anomalyclip.py",
    "configuration_anomalyclip.py",
    "image_processing_anomalyclip.py",
    "losses_anomalyclip.py",
    "prompt_ensemble_anomalyclip.py",
    "pickle_files_anomalyclip.py",
    "weight_files_anomalyclip.py",
    "checkpoints_anomalyclip.py",
    "sharing_anomalyclip.py",
    "modeling_anomalyclip.py",
    "postprocessing_anomalyclip.py",
    "processor_settings_anomalyclip.py",
    "processing_anomalyclip.py",
    "pipeline_anomaly_detection.py",
)
PROCESSOR_MAP = {"AutoProcessor": "processing_anomalyclip.AnomalyCLIPProcessor"}
AUTO_MAP = {
    "AutoConfig": "configuration_anomalyclip.AnomalyCLIPConfig",
    "AutoModel": "modeling_anomalyclip.AnomalyCLIPModel",
    **PROCESSOR_MAP,
}
CUSTOM_PIPELINES = {
    TASK: {"impl": "pipeline_anomaly_detection.AnomalyDetectionPipeline", "pt": ["AutoModel"], "type": "image"}
}
PUSH_ARGUMENTS = (
    *("commit_message", "commit_description", "private", "token", "revision", "create_pr", "subfolder", "tags"),
)
BASIC_CARD = """---
{metadata}
---

# {name}

An [AnomalyCLIP](https://arxiv.org/abs/2310.18961) model: it finds defects and lesions in images of things that it has
no training images of.

```python
from transformers import pipeline
import anomalyclip_hf

pipe = pipeline("{task}", model="{repo_id}")
```
"""


class HubSharing:
    """Gives a class that has `save_pretrained` the package's `push_to_hub`."""

    def push_to_hub(
        self,
        repo_id: str,
        *,
        commit_message: str | None = None,
        commit_description: str | None = None,
        private: bool | None = None,
        token: str | bool | None = None,
        revision: str | None = None,
        create_pr: bool = False,
        subfolder: str | None = None,
        tags: Sequence[str] = (),
        **save_arguments: Any,
    ) -> CommitInfo:
        """Save, and upload what was saved in one commit.

        Weights that lie in the repository in another form (whole, in shards, prompts only) are deleted in that commit,
        so that only those that were pushed can be loaded. A repository without a model card gets a short one; the full
        one is written by `anomalyclip hub card` and by the trainer. Files that arrived before a push was cut are not
        sent again.

        Args:
            repo_id (`str`): Of the repository, with its owner unless that is the owner of the token; made where
                missing.
            commit_message (`str`, *optional*): Title of the commit; default: "Upload" and the name of the class.
            commit_description (`str`, *optional*): Text of the commit.
            private (`bool`, *optional*): Make a new repository private; default: as its owner has set.
            token (`str` or `bool`, *optional*): Default: `HF_TOKEN` in the environment, or what `hf auth login` kept.
            revision (`str`, *optional*): Branch; made where missing. Default: `main`.
            create_pr (`bool`, *optional*, defaults to `False`): Propose the commit as a pull request.
            subfolder (`str`, *optional*): Folder in the repository, below its root.
            tags (`Sequence[str]`, *optional*): For the model card, beside the package's.
            **save_arguments: Passed to `save_pretrained`, as `prompts_only=True` or `include_code=True`.

        Returns:
            [`~huggingface_hub.CommitInfo`]: with the address of the commit or pull request.

        Raises:
            ValueError: If prompts would refer to a CLIP on this machine, or `subfolder` leads out of the repository.
            HfHubHTTPError: If the Hub refuses; nothing has changed there then.
            RuntimeError: If a large file cannot be uploaded; names it.
            OSError: If it cannot be reached, or the connection breaks; the same call goes on where it was.
        """
        api = HfApi(token=token)
        with tempfile.TemporaryDirectory() as temporary, broken_connections(f"the push to {repo_id}"):
            folder = Path(temporary)
            self.save_pretrained(folder, **save_arguments)  # type: ignore[attr-defined]
            base_model = remove_local_paths(folder)
            prefix = _folder_in_repository(subfolder)
            repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
            if revision is not None and not create_pr:
                api.create_branch(repo_id, branch=revision, exist_ok=True)
            own_card = folder / CARD_NAME if (folder / CARD_NAME).exists() else None
            # transformers looks for code at the root, wherever the weights are
            files = {path.name: path for path in sorted(folder.iterdir()) if path != own_card}
            saved = {("" if name in CODE_FILES else prefix) + name: path for name, path in files.items()}
            operations: list[Any] = [CommitOperationAdd(name, path) for name, path in saved.items()]
            operations += _other_weights(api, repo_id, revision, prefix, saved)
            card = _card(api, repo_id, revision, own_card, [*CARD_TAGS, *tags], base_model)
            operations.append(CommitOperationAdd(CARD_NAME, str(card).encode()))
            return api.create_commit(
                repo_id,
                operations,
                commit_message=commit_message or f"Upload {type(self).__name__}",
                commit_description=commit_description,
                revision=revision,
                create_pr=create_pr,
            )


def take_push_arguments(kwargs: dict[str, Any], save_directory: str | os.PathLike) -> dict[str, Any] | None:
    """Take out of `kwargs` what `save_pretrained(..., push_to_hub=True)` says about the push.

    Args:
        kwargs (`dict`): Changed in place.
        save_directory (`str` or `os.PathLike`): Names the repository where `repo_id` does not.

    Returns:
        `dict` or `None`: arguments of [`HubSharing.push_to_hub`]; `None` where nothing is to be pushed.
    """
    if not kwargs.pop("push_to_hub", False):
        return None
    given = {name: kwargs.pop(name) for name in PUSH_ARGUMENTS if name in kwargs}
    return {"repo_id": kwargs.pop("repo_id", Path(save_directory).name), **given}


def add_code(folder: str | os.PathLike) -> None:
    """Put the model's code beside its weights, so that it loads where only transformers is installed.

    With it `AutoModel.from_pretrained(..., trust_remote_code=True)` and `pipeline(..., trust_remote_code=True)` work
    there; the package, where it is installed, goes first.

    Args:
        folder (`str` or `os.PathLike`): With `config.json`, `processor_config.json`, or both.
    """
    for name in CODE_FILES:
        shutil.copyfile(Path(__file__).with_name(name), Path(folder) / name)
    _update_json(Path(folder) / CONFIG_NAME, {"auto_map": AUTO_MAP, "custom_pipelines": CUSTOM_PIPELINES})
    _update_json(Path(folder) / PROCESSOR_NAME, {"auto_map": PROCESSOR_MAP})


def is_on_this_machine(name: str | None) -> bool:
    """Whether a model's name is a path, which says nothing elsewhere."""
    return name is not None and (os.path.isabs(name) or os.path.isdir(name))


def remove_local_paths(folder: Path) -> str | None:
    """See that what is about to be shared does not refer to this machine.

    Args:
        folder (`Path`): With what was saved; the path of a CLIP is taken out of its `config.json`.

    Returns:
        `str` or `None`: the CLIP's id on the Hub.

    Raises:
        ValueError: If the folder holds prompts only, and the CLIP they need is on this machine alone.
    """
    path = folder / CONFIG_NAME
    if not path.exists():
        return None
    base_model = json.loads(path.read_text(encoding="utf-8")).get("base_model_name_or_path")
    if not is_on_this_machine(base_model):
        return base_model
    if (folder / PROMPTS_FILE).exists():
        raise ValueError(
            f"the prompts refer to the CLIP in {base_model}, which is on this machine alone; pass "
            "base_model_name_or_path=<its Hub id>, or push the whole model."
        )
    _update_json(path, dict.fromkeys(("base_model_name_or_path", "base_model_revision", "base_model_subfolder")))
    return None


def _update_json(path: Path, entries: dict[str, Any]) -> None:
    if path.exists():
        content = json.loads(path.read_text(encoding="utf-8")) | entries
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        partial.replace(path)


def _folder_in_repository(subfolder: str | None) -> str:
    """Check a folder's name and bring it to a prefix of paths."""
    if not subfolder:
        return ""
    path = PurePosixPath(subfolder)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"subfolder is {subfolder!r}; expected a folder inside the repository, as 'prompts/visa'.")
    return f"{path}/"


def _other_weights(
    api: HfApi, repo_id: str, revision: str | None, prefix: str, saved: dict[str, Path]
) -> list[CommitOperationDelete]:
    """Delete weights that would be loaded instead of those that are pushed, or beside them."""

    def is_weights(name: str) -> bool:
        rest = name.removeprefix(prefix)  # fnmatch lets * run over slashes
        in_folder = name.startswith(prefix) and "/" not in rest
        return in_folder and any(fnmatch.fnmatchcase(rest, pattern) for pattern in WEIGHT_FILES)

    if not any(is_weights(name) for name in saved):
        return []
    there = api.list_repo_files(repo_id, revision=revision)
    return [CommitOperationDelete(name) for name in there if is_weights(name) and name not in saved]


def _card(
    api: HfApi, repo_id: str, revision: str | None, own: Path | None, tags: list[str], base_model: str | None
) -> ModelCard:
    """The card that was saved, or is there, or a short one; with what `pipeline(model=repo_id)` looks for."""
    try:
        card = ModelCard.load(own or api.hf_hub_download(repo_id, CARD_NAME, revision=revision))
    except EntryNotFoundError:
        data = ModelCardData(base_model=base_model)
        name = repo_id.rsplit("/", 1)[-1]
        card = ModelCard(BASIC_CARD.format(metadata=data.to_yaml(), name=name, repo_id=repo_id, task=TASK))
    card.data.library_name, card.data.pipeline_tag = "transformers", TASK
    card.data.tags = list(dict.fromkeys([*(card.data.tags or ()), *tags]))
    return card


__all__ = ["HubSharing", "add_code"]
