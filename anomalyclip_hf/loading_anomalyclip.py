# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Load, save and share AnomalyCLIP: as a whole model, or as prompts with a reference to their CLIP.

Loading checks that names and shapes of tensors fit the configuration, that all weights are finite, and that the shards
that an index names lie beside it. Weights are read from safetensors. Only the weights of a plain CLIP may also be a
pickle, which transformers reads with `weights_only=True`.
"""

import copy
import hashlib
import inspect
import json
import os
import pickle
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import torch
from huggingface_hub import CommitInfo, HfApi, ModelCard, ModelCardData
from huggingface_hub.errors import EntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoTokenizer, CLIPConfig, CLIPModel, PreTrainedConfig, PreTrainedModel
from transformers.utils import (
    CONFIG_NAME,
    PROCESSOR_NAME,
    SAFE_WEIGHTS_INDEX_NAME,
    SAFE_WEIGHTS_NAME,
    WEIGHTS_INDEX_NAME,
    WEIGHTS_NAME,
    cached_file,
)
from transformers.utils.hub import extract_commit_hash

from .configuration_anomalyclip import (
    BASE_MODEL_SETTINGS,
    PAPER_PROMPT_DEPTH,
    TOKEN_IDS,
    AnomalyCLIPConfig,
    ensemble_sentences,
    is_inside,
    own_settings,
)


# Not a name that other loaders know: they would take it for a whole model and fill the CLIP with random weights.
PROMPTS_FILE = "prompts.safetensors"
WHOLE_FILES = (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME, "model-?????-of-?????.safetensors")
WEIGHT_FILES = (PROMPTS_FILE, *WHOLE_FILES)
CLIP_PREFIX = "clip."
HUB_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token")
# Settings of each tower in which the CLIP of prompts must equal the one that they were trained on.
TOWER_SETTINGS = (
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "hidden_act", "vocab_size"),
    *("patch_size", "image_size"),
)

CODE_FILES = (
    "image_processing_anomalyclip.py",
    "postprocessing_anomalyclip.py",
    "configuration_anomalyclip.py",
    "losses_anomalyclip.py",
    "loading_anomalyclip.py",
    "modeling_anomalyclip.py",
    "processing_anomalyclip.py",
    "pipeline_anomaly_detection.py",
)
TASK = "anomaly-detection"
CARD_NAME = "README.md"
CARD_TAGS = ("anomalyclip", TASK, "zero-shot", "clip")
PROCESSOR_MAP = {"AutoProcessor": "processing_anomalyclip.AnomalyCLIPProcessor"}
MODEL_MAP = {
    "AutoConfig": "configuration_anomalyclip.AnomalyCLIPConfig",
    "AutoModel": "modeling_anomalyclip.AnomalyCLIPModel",
}
CUSTOM_PIPELINES = {
    TASK: {"impl": "pipeline_anomaly_detection.AnomalyDetectionPipeline", "pt": ["AutoModel"], "type": "image"}
}


# ------------------------------------------------------------------------------------------------------------ sharing


class HubSharing:
    """Give a class that has `save_pretrained` the package's `push_to_hub`."""

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
        """Save to a temporary folder, and upload it in one commit.

        The same commit deletes weights in another form (whole, shards, prompts only), so that only the new ones can
        be loaded. A repository without a model card gets a short one.

        Args:
            repo_id (`str`): Repository; created if missing. Without an owner, the token's owner is used.
            commit_message (`str`, *optional*): Title of the commit; default: "Upload" and the name of the class.
            commit_description (`str`, *optional*): Text of the commit.
            private (`bool`, *optional*): Make a new repository private; default: as its owner has set.
            token (`str` or `bool`, *optional*): Default: `HF_TOKEN`, or the token of `hf auth login`.
            revision (`str`, *optional*): Branch; created if missing. Default: `main`.
            create_pr (`bool`, *optional*, defaults to `False`): Propose the commit as a pull request.
            subfolder (`str`, *optional*): Folder in the repository.
            tags (`Sequence[str]`, *optional*): Tags that the model card gets beside the package's own.
            **save_arguments: Passed to `save_pretrained`, as `prompts_only=True` or `include_code=True`.

        Returns:
            [`~huggingface_hub.CommitInfo`]: with the address of the commit or pull request.

        Raises:
            ValueError: If the prompts refer to a CLIP on this machine, or `subfolder` leads out of the repository.
            HfHubHTTPError: If the Hub refuses the push; no file changes there.
        """
        if subfolder and not is_inside(subfolder):
            raise ValueError(f"subfolder is {subfolder!r}; expected a folder inside the repository.")
        api, prefix = HfApi(token=token), f"{subfolder}/" if subfolder else ""
        with tempfile.TemporaryDirectory() as temporary, broken_connections(f"the push to {repo_id}"):
            root = Path(temporary)
            folder = root / prefix
            folder.mkdir(parents=True, exist_ok=True)
            self.save_pretrained(folder, **save_arguments)  # type: ignore[attr-defined]
            base_model = remove_local_paths(folder)
            for name in (CARD_NAME, *CODE_FILES):  # the Hub and transformers look for these at the root
                if (folder / name).exists():
                    (folder / name).replace(root / name)
            repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
            if revision is not None and not create_pr:
                api.create_branch(repo_id, branch=revision, exist_ok=True)
            _write_card(root / CARD_NAME, api, repo_id, revision, [*CARD_TAGS, *tags], base_model)
            has_weights = any(next(folder.glob(pattern), None) for pattern in WEIGHT_FILES)
            return api.upload_folder(
                repo_id=repo_id,
                folder_path=root,
                commit_message=commit_message or f"Upload {type(self).__name__}",
                commit_description=commit_description,
                revision=revision,
                create_pr=create_pr,
                delete_patterns=[prefix + pattern for pattern in WEIGHT_FILES] if has_weights else None,
            )


def take_push_arguments(kwargs: dict[str, Any], save_directory: str | os.PathLike) -> dict[str, Any] | None:
    """Take the arguments of [`HubSharing.push_to_hub`] out of those of `save_pretrained`; `None` without a push."""
    if not kwargs.pop("push_to_hub", False):
        return None
    names = kwargs.keys() & inspect.signature(HubSharing.push_to_hub).parameters.keys()
    given = {name: kwargs.pop(name) for name in names}
    return {"repo_id": Path(save_directory).name, **given}


def add_code(folder: str | os.PathLike) -> None:
    """Copy the model's code into a folder, and name it in the settings there, for use without this package."""
    for name in CODE_FILES:
        shutil.copyfile(Path(__file__).with_name(name), Path(folder) / name)
    _update_json(
        Path(folder) / CONFIG_NAME, {"auto_map": MODEL_MAP | PROCESSOR_MAP, "custom_pipelines": CUSTOM_PIPELINES}
    )
    _update_json(Path(folder) / PROCESSOR_NAME, {"auto_map": PROCESSOR_MAP})


def is_on_this_machine(name: str | None) -> bool:
    """Return whether a model's name is a path on this machine, which nobody else can load."""
    return name is not None and (os.path.isabs(name) or os.path.isdir(name))


def remove_local_paths(folder: Path) -> str | None:
    """Take the path of a CLIP on this machine out of the `config.json` of a folder that is about to be shared.

    Returns:
        `str` or `None`: the CLIP's id on the Hub.

    Raises:
        ValueError: If the folder holds only prompts, and the CLIP they need is on this machine.
    """
    path = folder / CONFIG_NAME
    base_model = json.loads(path.read_text(encoding="utf-8"))["base_model_name_or_path"] if path.exists() else None
    if not is_on_this_machine(base_model):
        return base_model
    if (folder / PROMPTS_FILE).exists():
        raise ValueError(
            f"the prompts refer to the CLIP in {base_model}, which is only on this machine; pass "
            "base_model_name_or_path=<its Hub id>, or push the whole model."
        )
    _update_json(path, dict.fromkeys(BASE_MODEL_SETTINGS))
    return None


def _update_json(path: Path, entries: dict[str, Any]) -> None:
    if path.exists():
        content = json.loads(path.read_text(encoding="utf-8")) | entries
        path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _write_card(
    path: Path, api: HfApi, repo_id: str, revision: str | None, tags: list[str], base_model: str | None
) -> None:
    """Write the model card: the saved one, else the one on the Hub, else a short one, always with task and tags."""
    try:
        card = ModelCard.load(path if path.exists() else api.hf_hub_download(repo_id, CARD_NAME, revision=revision))
    except EntryNotFoundError:
        title = repo_id.rsplit("/", 1)[-1]
        use = (
            f'from transformers import pipeline\nimport anomalyclip_hf\n\npipe = pipeline("{TASK}", model="{repo_id}")'
        )
        about = "An [AnomalyCLIP](https://arxiv.org/abs/2310.18961) model for zero-shot anomaly detection."
        card = ModelCard(f"---\n{{}}\n---\n\n# {title}\n\n{about}\n\n```python\n{use}\n```\n")
        card.data = ModelCardData(base_model=base_model)
    card.data.library_name, card.data.pipeline_tag = "transformers", TASK
    card.data.tags = list(dict.fromkeys([*(card.data.tags or ()), *tags]))
    card.save(path)


# --------------------------------------------------------------------------------------------------- the base class


class AnomalyCLIPPreTrainedModel(HubSharing, PreTrainedModel):
    """Load and save [`AnomalyCLIPModel`]; the model itself is defined in `modeling_anomalyclip`."""

    config_class = AnomalyCLIPConfig
    config: AnomalyCLIPConfig
    base_model_prefix = ""
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    accepts_loss_kwargs = False  # otherwise Trainer rescales the loss under gradient accumulation
    _supports_sdpa = True
    _supports_attention_backend = True
    _no_split_modules = ["CLIPModel"]  # its layers' parts are called directly, so it stays on one device
    _keep_in_fp32_modules_strict = ["prompt_learner", "prompt_ensemble"]  # training in 16 bits would lose updates
    clip: CLIPModel

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike,
        *model_args: Any,
        config: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Load a model from a folder or the Hub: whole, or prompts with a reference to their CLIP.

        Args:
            pretrained_model_name_or_path (`str` or `os.PathLike`): Hub id or folder.
            *model_args: Passed on.
            config ([`AnomalyCLIPConfig`], `str` or `os.PathLike`, *optional*):
                Settings, or the Hub id or folder where they are stored; default: those stored with the weights.
            **kwargs: Arguments of [`AnomalyCLIPConfig`] override what is stored; the rest as for
                [`~transformers.PreTrainedModel.from_pretrained`] (`revision`, `token`, `dtype`, …).

        Returns:
            [`AnomalyCLIPModel`]: in evaluation mode, only the prompts trainable and in float32 or more. With
            `output_loading_info=True` a tuple of it and a `dict` about what was loaded.

        Raises:
            OSError: If a file is missing, cut short or unreadable; the message names it.
            ValueError: If tensors are missing, unexpected, not finite, or of a shape that does not fit the settings.
        """
        is_base_model_given = "base_model_name_or_path" in kwargs
        overrides = {name: kwargs.pop(name) for name in set(kwargs) & own_settings()}
        wants_info = kwargs.pop("output_loading_info", False)
        source, kwargs = pretrained_model_name_or_path, _pin_commit(pretrained_model_name_or_path, kwargs)
        if isinstance(config, PreTrainedConfig):  # remote code may come with a copy of our class
            if config.model_type != AnomalyCLIPConfig.model_type:
                raise ValueError(f"config is a {type(config).__name__}; expected an AnomalyCLIPConfig.")
            config = AnomalyCLIPConfig.from_dict(config.to_dict(), **overrides) if overrides else copy.deepcopy(config)
        else:
            place = hub_arguments(kwargs) if config is None else {}
            config = AnomalyCLIPConfig.from_pretrained(config or source, **overrides, **place)
        prompts_file = find_file(source, PROMPTS_FILE, kwargs)
        if prompts_file is not None:
            if not is_base_model_given:
                _check_base_reference(config, source, kwargs)
            model, info = cls._from_prompts_file(prompts_file, config, kwargs)
        else:
            _check_weight_files(source, (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME), kwargs)
            kwargs["use_safetensors"] = True
            model, info = _load_checked(super().from_pretrained, source, *model_args, config=config, **kwargs)
            model.clip.requires_grad_(False)
        return (model, info) if wants_info else model  # type: ignore[return-value]

    @classmethod
    def _from_prompts_file(
        cls, prompts_file: str, config: AnomalyCLIPConfig, kwargs: Mapping[str, Any]
    ) -> tuple[Self, dict[str, Any]]:
        """Load prompts, and the CLIP that their configuration names."""
        base_model = config.base_model_name_or_path
        if base_model is None:
            raise ValueError(
                f"{prompts_file} holds only prompts and its config.json names no base_model_name_or_path; pass "
                "base_model_name_or_path=<Hub id or folder of their CLIP> to from_pretrained."
            )
        elsewhere = ("subfolder", "code_revision", "variant", "use_safetensors")  # these are about the prompts
        kwargs = {name: value for name, value in kwargs.items() if name not in elsewhere}
        kwargs["revision"] = config.base_model_revision or "main"
        kwargs["subfolder"] = config.base_model_subfolder or ""
        try:
            clip, info = _load_clip(base_model, kwargs)
        except OSError as error:
            raise OSError(
                f"{prompts_file} needs the CLIP under its prompts: {' '.join(str(error).split())} If it is elsewhere, "
                "pass base_model_name_or_path=... to from_pretrained."
            ) from error
        _check_base_model(config, clip.config)
        model = cls(config, clip=clip)
        load_prompts_file(model, prompts_file)
        return model.to(clip.device).eval(), info

    @classmethod
    def from_clip_pretrained(
        cls, clip_name_or_path: str, *, prompts: str = "learned", tokenizer: Any = None, **kwargs: Any
    ) -> Self:
        """Add new prompts to a CLIP.

        Args:
            clip_name_or_path (`str`): Hub id or folder that [`~transformers.CLIPModel`] loads.
            prompts (`str`, *optional*, defaults to `"learned"`):
                `"learned"`: random prompts to train. `"ensemble"`: hand-written sentences, ready to use.
            tokenizer ([`~transformers.CLIPTokenizer`], *optional*):
                Defaults to the one beside the CLIP, which is loaded only if the token ids are not known.
            **kwargs: Arguments of [`AnomalyCLIPConfig`] override its defaults; the rest (`revision`, `token`, `dtype`,
                `cache_dir`, `local_files_only`, `attn_implementation`, …) goes to `CLIPModel.from_pretrained`. Prompts
                stay in float32 whatever the `dtype` of the CLIP.

        Returns:
            [`AnomalyCLIPModel`]: in evaluation mode, only the prompts trainable.

        Raises:
            ValueError: If the settings contradict each other or the CLIP.
            OSError: If the CLIP or its tokenizer cannot be read; the message names the file.

        Example:
        ```python
        >>> from anomalyclip_hf import AnomalyCLIPModel

        >>> clip_folder = str(getfixture("clip_folder"))  # or "openai/clip-vit-large-patch14-336"
        >>> model = AnomalyCLIPModel.from_clip_pretrained(clip_folder, prompts="ensemble")
        >>> model.num_parameters(only_trainable=True)
        0

        ```
        """
        overrides = {name: kwargs.pop(name) for name in set(kwargs) & own_settings()}
        kwargs = _pin_commit(clip_name_or_path, kwargs)
        clip, _ = _load_clip(clip_name_or_path, kwargs)
        is_folder = os.path.isdir(clip_name_or_path)  # prompts saved elsewhere must find it again
        overrides.setdefault(
            "base_model_name_or_path", os.path.abspath(clip_name_or_path) if is_folder else clip_name_or_path
        )
        overrides.setdefault("base_model_revision", None if is_folder else kwargs.get("revision"))
        overrides.setdefault("base_model_subfolder", kwargs.get("subfolder"))
        return cls.from_clip(
            clip, lambda: tokenizer or load_tokenizer(clip_name_or_path, **kwargs), prompts=prompts, **overrides
        )

    @classmethod
    def from_clip(
        cls, clip: CLIPModel, load_tokenizer: Callable[[], Any], *, prompts: str = "learned", **overrides: Any
    ) -> Self:
        """Add new prompts to a CLIP in memory.

        Args:
            clip ([`~transformers.CLIPModel`]): The CLIP; it is wrapped and frozen, not copied.
            load_tokenizer (`Callable`): Returns the CLIP's tokenizer; called only if the token ids are not known.
            prompts (`str`, *optional*, defaults to `"learned"`): `"learned"` or `"ensemble"`.
            **overrides: Arguments of [`AnomalyCLIPConfig`]; prompts go no deeper than the text tower by default.

        Returns:
            [`AnomalyCLIPModel`]: in evaluation mode, only the prompts trainable.

        Raises:
            ValueError: If the settings contradict each other or the CLIP.
        """
        overrides.setdefault("deep_prompt_depth", min(PAPER_PROMPT_DEPTH, clip.config.text_config.num_hidden_layers))
        # A configuration without token ids, which the ensemble does not need, knows the words to tokenise.
        draft = AnomalyCLIPConfig.from_clip_config(clip.config, **{**overrides, "prompts": "ensemble"})
        for name, words in zip(TOKEN_IDS, draft.prompt_words, strict=True):
            if prompts == "learned" and getattr(draft, name) is None:
                overrides[name] = load_tokenizer()(words)["input_ids"]
        config = AnomalyCLIPConfig.from_clip_config(clip.config, **{**overrides, "prompts": prompts})
        model = cls(config, clip=clip)
        if prompts == "ensemble":
            model.fill_ensemble(load_tokenizer(), ensemble_sentences(config.object_name))
        return model.to(clip.device).eval()

    def fill_ensemble(self, tokenizer: Any, sentences: tuple[list[str], list[str]]) -> None:
        """Embed the sentences about normal and damaged things; defined by the model."""
        raise NotImplementedError

    def save_pretrained(
        self,
        save_directory: str | os.PathLike,
        *args: Any,
        prompts_only: bool = False,
        include_code: bool = False,
        **kwargs: Any,
    ) -> None:
        """Save the whole model, or only its prompts with a reference to their CLIP.

        Args:
            save_directory (`str` or `os.PathLike`): Folder; created if missing.
            *args: Passed on.
            prompts_only (`bool`, *optional*, defaults to `False`):
                Write `prompts.safetensors` (about 170 KB for ViT-L/14) instead of all weights. Changes to the CLIP are
                not saved.
            include_code (`bool`, *optional*, defaults to `False`):
                Put the model's code beside it, for `trust_remote_code=True` where this package is not installed.
            **kwargs: `base_model_name_or_path`, `base_model_revision` and `base_model_subfolder` name the CLIP of the
                prompts; by default it is the one that the model was made from. A whole model also takes the arguments
                of [`~transformers.PreTrainedModel.save_pretrained`]. With `push_to_hub=True`, `repo_id` and the
                arguments of [`push_to_hub`].

        Raises:
            OSError: If the weights cannot be written.
            ValueError: If the CLIP is not known, or the folder holds a model in the other form.
        """
        self.config.set_base_model(**{name: kwargs.pop(name, None) for name in BASE_MODEL_SETTINGS})
        push_arguments = take_push_arguments(kwargs, save_directory)
        folder = Path(save_directory)
        if prompts_only and self.config.base_model_name_or_path is None:
            raise ValueError(
                "prompts_only=True needs the name of the CLIP, which this model does not know; pass "
                "base_model_name_or_path=<Hub id or folder of the CLIP> (--base-model), or save the whole model."
            )
        if prompts_only and (args or kwargs):
            raise ValueError(f"prompts_only=True does not take {', '.join(kwargs) or 'further arguments'}.")
        for name in WHOLE_FILES[:2] if prompts_only else (PROMPTS_FILE,):
            if (folder / name).exists():
                raise ValueError(f"{folder} already holds {name}, another form of checkpoint; use an empty folder.")
        folder.mkdir(parents=True, exist_ok=True)
        try:
            if prompts_only:
                save_prompts_file(self, folder)
            else:
                super().save_pretrained(folder, *args, **kwargs)
        except SafetensorError as error:
            raise OSError(f"the weights cannot be written to {folder} ({error}); make room there.") from error
        for path in (path for pattern in WEIGHT_FILES for path in folder.glob(pattern)):
            if not path.is_symlink() and (folder / CONFIG_NAME).exists():
                shutil.copymode(folder / CONFIG_NAME, path)  # safetensors writes files that only their owner can read
        if include_code:
            add_code(folder)
        if push_arguments is not None:
            self.push_to_hub(**push_arguments, prompts_only=prompts_only, include_code=include_code)


# ------------------------------------------------------------------------------------------------- prompts on disk


def prompt_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """Return everything of the model's state that is not the CLIP's."""
    return {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(CLIP_PREFIX)}


def load_prompts_file(model: nn.Module, path: str | os.PathLike) -> None:
    """Fill the model's prompts from a `prompts.safetensors`.

    Args:
        model ([`AnomalyCLIPModel`]): Changed in place.
        path (`str` or `os.PathLike`): The file.

    Raises:
        OSError: If the file is damaged or cut short.
        ValueError: If a tensor is missing, unexpected, of another shape, or not finite.
    """
    expected = prompt_state_dict(model)
    try:
        stored = load_file(path)
    except SafetensorError as error:
        reason = " ".join(str(error).split())[:400]  # it may quote the file
        raise OSError(f"{path} is damaged or cut short ({reason}); fetch or save this checkpoint again.") from error
    shapes = [(name, stored[name].shape, expected[name].shape) for name in expected.keys() & stored.keys()]
    mismatched = [(name, found, wanted) for name, found, wanted in shapes if found != wanted]
    _check_keys(expected.keys() - stored.keys(), stored.keys() - expected.keys(), mismatched, path)
    _check_finite(stored, path)
    model.load_state_dict(stored, strict=False)


def save_prompts_file(model: PreTrainedModel, folder: str | os.PathLike) -> None:
    """Write `config.json` and `prompts.safetensors`, each completely or not at all.

    Args:
        model ([`AnomalyCLIPModel`]): The model; its prompts are written in float32.
        folder (`str` or `os.PathLike`): An existing folder.
    """
    tensors = {name: tensor.detach().float().cpu().contiguous() for name, tensor in prompt_state_dict(model).items()}
    model.config.architectures = [type(model).__name__]
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=folder) as partial:
        model.config.save_pretrained(partial)
        save_file(tensors, Path(partial) / PROMPTS_FILE, metadata={"format": "pt"})
        for name in (PROMPTS_FILE, CONFIG_NAME):
            (Path(partial) / name).replace(Path(folder) / name)
        (Path(folder) / PROMPTS_FILE).chmod((Path(folder) / CONFIG_NAME).stat().st_mode)  # safetensors writes 0600


# ------------------------------------------------------------------------------------------------- loading and checks


def load_tokenizer(source: str | os.PathLike, **kwargs: Any) -> Any:
    """Load the tokenizer of a CLIP; code beside it runs only with `trust_remote_code=True`.

    Args:
        source (`str` or `os.PathLike`): Hub id or folder.
        **kwargs: Arguments of `from_pretrained`.

    Raises:
        OSError: If there is no tokenizer.
    """
    trust_remote_code = bool(kwargs.get("trust_remote_code", False))  # None would ask at the terminal
    tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=trust_remote_code, **hub_arguments(kwargs))
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):  # transformers found no vocabulary
        raise OSError(
            f"{source} has no tokenizer; expected tokenizer.json, or vocab.json and merges.txt, beside the weights. "
            "Save the CLIP's own there, or pass tokenizer=... to AnomalyCLIPModel.from_clip_pretrained."
        )
    return tokenizer


def _load_clip(source: str, kwargs: Mapping[str, Any]) -> tuple[CLIPModel, dict[str, Any]]:
    names = (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME, WEIGHTS_NAME, WEIGHTS_INDEX_NAME)
    _check_weight_files(source, names, kwargs)
    return _load_checked(CLIPModel.from_pretrained, source, **kwargs)


def _load_checked(load: Callable[..., Any], source: Any, *args: Any, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
    """Load a model, and check that its weights are complete and finite."""
    kwargs |= {"output_loading_info": True, "weights_only": True, "ignore_mismatched_sizes": True}  # refused below
    try:
        model, info = load(source, *args, **kwargs)
    except (SafetensorError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise OSError(
            f"the weights in {source} are damaged, cut short, or hold more than tensors ({reason}); fetch or save "
            "them again."
        ) from error
    _check_keys(info["missing_keys"], info["unexpected_keys"], info["mismatched_keys"], source)
    _check_finite(model.state_dict(), source)
    return model, info


def _check_keys(missing: Any, unexpected: Any, mismatched: Any, source: str | os.PathLike) -> None:
    if mismatched:
        name, stored, expected = min(mismatched)
        raise ValueError(
            f"{source} does not fit its configuration: {name!r:.200} has shape {tuple(stored)}, expected "
            f"{tuple(expected)}. Load it with the config that it was saved with."
        )
    for problem, names in (("lacks", missing), ("holds unexpected", unexpected)):
        if names:
            raise ValueError(
                f"{source} {problem} {len(names)} of the model's tensors, the first is {min(names)!r:.200}. A whole "
                "AnomalyCLIP loads with AnomalyCLIPModel.from_pretrained, a plain CLIP with from_clip_pretrained, and "
                "published files go to `anomalyclip convert`."
            )


def _check_finite(tensors: Mapping[str, Tensor], source: str | os.PathLike) -> None:
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.is_meta and not torch.isfinite(tensor).all():
            raise ValueError(f"{source}: {name} holds NaN or infinite values. Go back to an earlier checkpoint.")


@contextmanager
def broken_connections(doing: str) -> Iterator[None]:
    """Raise errors of the HTTP client and of the disk as an `OSError` that says what was being done."""
    try:
        yield
    except Exception as error:
        # The client under huggingface_hub differs between its versions; all of them call its error HTTPError.
        if isinstance(error, OSError):
            is_broken = error.errno is not None  # errors without a number are those of huggingface_hub
        else:
            is_broken = "HTTPError" in {kind.__name__ for kind in type(error).__mro__}
        if not is_broken:
            raise
        raise OSError(f"{doing} broke off ({type(error).__name__}: {error}); try again.") from error


def hub_arguments(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that choose a repository's files on the Hub, without those that are `None`."""
    return {name: kwargs[name] for name in HUB_ARGUMENTS if kwargs.get(name) is not None}


def _pin_commit(source: str | os.PathLike, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Replace a branch or tag on the Hub by its commit, so that all files come from one version."""
    path = None if os.path.isdir(source) else find_file(source, CONFIG_NAME, kwargs)
    commit = extract_commit_hash(path, None)
    return {**kwargs, "revision": commit} if commit else dict(kwargs)


def find_file(source: str | os.PathLike, name: str, kwargs: Mapping[str, Any]) -> str | None:
    """Return the path of a file of a checkpoint, downloaded if it is on the Hub; `None` if there is no such file."""
    with broken_connections(f"fetching {name} of {source}"):
        return cached_file(source, name, _raise_exceptions_for_missing_entries=False, **hub_arguments(kwargs))


def _check_weight_files(source: str | os.PathLike, names: Sequence[str], kwargs: Mapping[str, Any]) -> None:
    """Check that weights exist, and that all shards of an index lie in its folder."""
    if variant := kwargs.get("variant"):
        names = [re.sub(r"\.(\w+)$", rf".{variant}.\1", name) for name in names]
    for name in names:
        path = find_file(source, name, kwargs)
        if path is None:
            continue
        shards = json.loads(Path(path).read_text(encoding="utf-8"))["weight_map"] if name.endswith(".json") else {}
        for shard in shards.values():
            if not is_inside(shard):
                raise ValueError(f"{path} names {shard!r:.100} as a shard; expected a file in its own folder.")
        return
    raise OSError(f"{source} has no weights that can be loaded; expected {' or '.join(names)}.")


def _check_base_model(config: AnomalyCLIPConfig, clip_config: CLIPConfig) -> None:
    """Check that the CLIP has the sizes that the prompts were saved with."""
    towers = [(tower, name) for tower in ("text_config", "vision_config") for name in TOWER_SETTINGS]
    for tower, name in [("", "projection_dim"), *towers]:
        saved, found = (getattr(getattr(c, tower) if tower else c, name, None) for c in (config, clip_config))
        if saved != found:
            raise ValueError(
                f"{config.base_model_name_or_path} has {tower}.{name} {found}, expected {saved} as saved with the "
                "prompts; pass their own CLIP as base_model_name_or_path=... to from_pretrained."
            )


def _check_base_reference(config: AnomalyCLIPConfig, source: str | os.PathLike, kwargs: Mapping[str, Any]) -> None:
    """Refuse prompts from the Hub whose stored configuration names a path as their CLIP."""
    base_model = config.base_model_name_or_path
    if base_model is None or os.path.isdir(source):
        return
    stored, _ = AnomalyCLIPConfig.get_config_dict(source, **hub_arguments(kwargs))
    is_id = re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", base_model) and not os.path.exists(base_model)
    if base_model == stored.get("base_model_name_or_path") and not is_id:
        raise ValueError(
            f"{source} names {base_model!r:.100} as base_model_name_or_path, expected the id of a CLIP on the Hub and "
            "no path on this machine; pass base_model_name_or_path=... to from_pretrained if you want that."
        )


def model_fingerprint(model: Any) -> str:
    """Compute a digest of everything in a model that scores depend on: weights and settings of the forward pass.

    Args:
        model ([`AnomalyCLIPModel`]): The model.

    Returns:
        `str`: 64 hexadecimal digits, the same for every version of transformers.
    """
    config = model.config
    settings = (config.temperature, config.input_size, list(config.feature_layers), config.dpam_layers)
    words = (config.prompts, config.prompt_words, config.normal_token_ids, config.abnormal_token_ids)
    digest = hashlib.sha256(repr((*settings, config.dpam_attention, *words)).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


__all__ = ["AnomalyCLIPPreTrainedModel", "HubSharing", "add_code", "model_fingerprint"]
