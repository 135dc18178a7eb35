# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""AnomalyCLIP (arXiv 2310.18961): a frozen CLIP, two learned prompts and a second attention path for its patches.

Read from top to bottom: the prompts, the text encoder that reads them, the dual-path vision encoder, and the model
that turns their similarities into image scores and anomaly maps.
"""

import copy
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPModel, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils import ModelOutput

from .checkpoints_anomalyclip import (
    PROMPTS_FILE,
    check_base_model,
    check_base_reference,
    check_loading_info,
    check_weights,
    expected_state,
    load_clip_config,
    load_prompts_file,
    load_tokenizer,
    prepare_folder,
    readable_weights,
    save_prompts_file,
    writable_weights,
)
from .configuration_anomalyclip import BASE_MODEL, PAPER_PROMPT_DEPTH, AnomalyCLIPConfig, own_settings
from .hub_files_anomalyclip import find_commit, find_file, hub_arguments, pin_commit
from .limits_anomalyclip import one_line
from .losses_anomalyclip import glocal_loss
from .prompt_ensemble_anomalyclip import check_ensemble_settings, check_sentences, ensemble_sentences
from .sharing_anomalyclip import HubSharing, add_code, take_push_arguments
from .weight_files_anomalyclip import check_finite


@dataclass
class AnomalyCLIPOutput(ModelOutput):
    """What [`AnomalyCLIPModel`] returns. Higher scores mean more anomalous; all embeddings are L2-normalised.

    Args:
        loss (`torch.Tensor`, *optional*): Scalar, image loss plus weighted pixel loss; with `labels`.
        image_loss (`torch.Tensor`, *optional*): Scalar, cross-entropy of the image logits; with `labels`.
        pixel_loss (`torch.Tensor`, *optional*): Scalar, focal and Dice losses before their weight; with `masks`.
        image_scores (`torch.Tensor` of shape `(batch_size,)`): Probability of abnormal, in [0, 1].
        image_logits (`torch.Tensor` of shape `(batch_size, 2)`): Similarity to (normal, abnormal) over temperature.
        anomaly_maps (`torch.Tensor` of shape `(batch_size, height, width)`):
            Sum over the tapped layers of the probability of abnormal, float32, not smoothed, at the size of the input;
            from 0 to the number of tapped layers.
        text_embeds (`torch.Tensor` of shape `(2, projection_dim)`): Row 0 normal, row 1 abnormal.
        image_embeds (`torch.Tensor` of shape `(batch_size, projection_dim)`): From the class token.
        patch_embeds (`tuple` of `torch.Tensor` of shape `(batch_size, num_patches, projection_dim)`):
            One entry per tapped layer, row-major, without the class token.
    """

    loss: Tensor | None = None
    image_loss: Tensor | None = None
    pixel_loss: Tensor | None = None
    image_scores: Tensor | None = None
    image_logits: Tensor | None = None
    anomaly_maps: Tensor | None = None
    text_embeds: Tensor | None = None
    image_embeds: Tensor | None = None
    patch_embeds: tuple[Tensor, ...] | None = None


# ---------------------------------------------------------------------------------------------------------- prompts


class AnomalyCLIPPromptLearner(nn.Module):
    """The learnable vectors: one prompt per class at the input, and deep prompts that both classes share.

    Paper, sections 3.2 and 3.3. All shapes in the width of the text tower.

    Args:
        config ([`AnomalyCLIPConfig`]): Prompt sizes and the token ids of the words that follow the vectors.
    """

    def __init__(self, config: AnomalyCLIPConfig):
        super().__init__()
        width = config.text_config.hidden_size
        self.token_ids = (list(config.normal_token_ids or ()), list(config.abnormal_token_ids or ()))
        self.normal_prompt = nn.Parameter(torch.empty(config.num_prompt_tokens, width))
        self.abnormal_prompt = nn.Parameter(torch.empty(config.num_prompt_tokens, width))
        self.deep_prompts = nn.Parameter(
            torch.empty(config.deep_prompt_depth - 1, config.num_deep_prompt_tokens, width)
        )

    def forward(self, token_embedding: nn.Embedding) -> tuple[Tensor, Tensor]:
        """Put start of text, the learnable vectors and the words with end of text in a row.

        Args:
            token_embedding (`torch.nn.Embedding`): The text tower's.

        Returns:
            `tuple[torch.Tensor, torch.Tensor]`: embeddings of shape `(2, length, width)`, row 0 normal, the shorter
            one padded behind its end, and the positions of end of text, shape `(2,)`.
        """
        sequences = []
        for prompt, token_ids in zip((self.normal_prompt, self.abnormal_prompt), self.token_ids, strict=True):
            start, words = token_embedding(torch.tensor(token_ids, device=prompt.device)).split(
                [1, len(token_ids) - 1]
            )
            sequences.append(torch.cat([start, prompt.to(start.dtype), words]))
        end_positions = torch.tensor([len(sequence) - 1 for sequence in sequences], device=self.normal_prompt.device)
        return nn.utils.rnn.pad_sequence(sequences, batch_first=True), end_positions


class AnomalyCLIPPromptEnsemble(nn.Module):
    """The mean embeddings of hand-written sentences: nothing to learn, kept with the weights.

    Args:
        config ([`AnomalyCLIPConfig`]): Gives the size of the joint embedding space.
    """

    def __init__(self, config: AnomalyCLIPConfig):
        super().__init__()
        self.text_embeds: Tensor
        self.register_buffer("text_embeds", torch.zeros(2, config.projection_dim))


# ------------------------------------------------------------------------------------------------------ text encoder


def encode_text(
    clip: CLIPModel, token_embeds: Tensor, end_positions: Tensor, deep_prompts: Sequence[Tensor] | Tensor = ()
) -> Tensor:
    """Run CLIP's text tower on embeddings; before layer i its first positions are *overwritten* by deep prompt i.

    Args:
        clip ([`~transformers.CLIPModel`]): Gives the text tower and its projection.
        token_embeds (`torch.Tensor` of shape `(num_texts, length, width)`): Without positions.
        end_positions (`torch.Tensor` of shape `(num_texts,)`): Where end of text stands. Attention is causal, so what
            follows does not matter.
        deep_prompts (`torch.Tensor` of shape `(num_deep_layers, num_deep_tokens, width)`, *optional*):
            Prompt i replaces positions 1 to `num_deep_tokens` before text layer i + 1, counted from 0.

    Returns:
        `torch.Tensor` of shape `(num_texts, projection_dim)`: float32, L2-normalised.
    """
    text_model = clip.text_model
    num_texts, length, _ = token_embeds.shape
    hidden_states = text_model.embeddings(inputs_embeds=token_embeds)
    causal_mask = torch.full((length, length), float("-inf"), dtype=hidden_states.dtype, device=hidden_states.device)
    causal_mask = causal_mask.triu(1)[None, None]  # (1, 1, length, length)

    for index, layer in enumerate(text_model.encoder.layers):
        if 1 <= index <= len(deep_prompts):
            prompt = deep_prompts[index - 1].to(hidden_states.dtype).expand(num_texts, -1, -1)
            rest = hidden_states[:, 1 + prompt.shape[1] :]
            hidden_states = torch.cat([hidden_states[:, :1], prompt, rest], dim=1)
        hidden_states = layer(hidden_states, causal_mask)

    hidden_states = hidden_states[torch.arange(num_texts, device=hidden_states.device), end_positions]
    text_embeds = clip.text_projection(text_model.final_layer_norm(hidden_states))
    return F.normalize(text_embeds.float(), dim=-1)


@torch.no_grad()
def encode_sentences(clip: CLIPModel, tokenizer: Any, sentences: list[str]) -> Tensor:
    """Embed sentences, average and normalise.

    Args:
        clip ([`~transformers.CLIPModel`]): Gives the text tower.
        tokenizer ([`~transformers.CLIPTokenizer`]): The tokenizer that the CLIP was trained with.
        sentences (`list[str]`): At least one.

    Returns:
        `torch.Tensor` of shape `(projection_dim,)`: L2-normalised mean.
    """
    token_ids = [torch.tensor(ids) for ids in tokenizer(sentences)["input_ids"]]
    check_sentences(clip.config.text_config, sentences, token_ids)
    end_positions = torch.tensor([len(ids) - 1 for ids in token_ids], device=clip.device)
    input_ids = nn.utils.rnn.pad_sequence(token_ids, batch_first=True).to(clip.device)
    token_embeds = clip.text_model.embeddings.token_embedding(input_ids)
    return F.normalize(encode_text(clip, token_embeds, end_positions).mean(0), dim=0)


# ------------------------------------------------------------------------------------------ dual-path vision encoder


def encode_image(
    clip: CLIPModel,
    pixel_values: Tensor,
    *,
    dpam_layers: int,
    feature_layers: Sequence[int],
    dpam_attention: str = "vv",
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run CLIP's vision tower with the diagonally prominent attention map (DPAM, paper, section 3.2).

    In the last `dpam_layers` layers a local path runs beside the ordinary one. It starts as the hidden state that
    enters the first of them, adds the output of v-v attention of each, has no MLP, and never feeds back.

    Args:
        clip ([`~transformers.CLIPModel`]): Gives the vision tower and its projection.
        pixel_values (`torch.Tensor` of shape `(batch_size, 3, height, width)`): Normalised; multiples of the patch.
        dpam_layers (`int`): Number of last layers with a local path; 0 taps the plain hidden states.
        feature_layers (`Sequence[int]`): Layers to tap, counted from 1, ascending.
        dpam_attention (`str`, *optional*, defaults to `"vv"`): Operands of the softmax in the local path.

    Returns:
        `tuple[torch.Tensor, tuple[torch.Tensor, ...]]`: image embeddings `(batch_size, projection_dim)` of the class
        token, and per tapped layer patch embeddings `(batch_size, num_patches, projection_dim)`; not normalised.
    """
    vision_model = clip.vision_model
    hidden_states = _embed_patches(vision_model, pixel_values)
    local_states: Any = None  # (batch_size, num_patches, width) once the first dual layer is reached
    layers = vision_model.encoder.layers
    tapped = []
    for number, layer in enumerate(layers, start=1):
        has_local_path = number > len(layers) - dpam_layers and number <= feature_layers[-1]
        if has_local_path and local_states is None:
            local_states = hidden_states[:, 1:]
        # Of the last layer only the class token is read, unless its plain patches are tapped.
        class_token_only = number == len(layers) and (has_local_path or number not in feature_layers)
        attended, local_update = _dual_path_attention(
            layer, hidden_states, dpam_attention if has_local_path else None, class_token_only
        )
        hidden_states = (hidden_states[:, :1] if class_token_only else hidden_states) + attended
        hidden_states = hidden_states + layer.mlp(_normalise(layer.layer_norm2, hidden_states))
        if local_update is not None:
            local_states = local_states + local_update
        if number in feature_layers:
            patches = hidden_states[:, 1:] if local_states is None else local_states
            tapped.append(clip.visual_projection(_normalise(vision_model.post_layernorm, patches)))
    return clip.visual_projection(hidden_states[:, 0].to(clip.visual_projection.weight.dtype)), tuple(tapped)


def _embed_patches(vision_model: Any, pixel_values: Tensor) -> Tensor:
    """Embed and normalise patches and class token; positions are resized bilinearly, not bicubically, as in the paper.

    In float32, whatever the weights are stored in: bfloat16 cannot tell neighbouring grey levels apart. So are
    the sums over layers that begin here, which bfloat16 would round at each layer.
    """
    embeddings, norm = vision_model.embeddings, vision_model.pre_layrnorm
    kernel = embeddings.patch_embedding
    with _full_precision(pixel_values):
        patches = F.conv2d(pixel_values.float(), kernel.weight.float(), stride=kernel.stride)
    grid = patches.shape[-2:]
    positions = embeddings.position_embedding.weight
    stored_side = round((positions.shape[0] - 1) ** 0.5)
    if grid != (stored_side, stored_side):
        stored = positions[1:].T.reshape(1, -1, stored_side, stored_side).float()
        resized = F.interpolate(stored, size=grid, mode="bilinear", align_corners=False)
        positions = torch.cat([positions[:1], resized.flatten(2)[0].T])
    class_token = embeddings.class_embedding.expand(patches.shape[0], 1, -1)
    embedded = torch.cat([class_token, patches.flatten(2).transpose(1, 2)], dim=1) + positions
    return F.layer_norm(embedded.float(), norm.normalized_shape, norm.weight.float(), norm.bias.float(), norm.eps)


def _normalise(norm: Any, hidden_states: Tensor) -> Tensor:
    """Apply a LayerNorm to float32 sums; the result is in the dtype of the weights, in which layers compute."""
    return norm(hidden_states.to(norm.weight.dtype))


def _dual_path_attention(
    layer: Any, hidden_states: Tensor, dpam_attention: str | None, class_token_only: bool
) -> tuple[Tensor, Tensor | None]:
    """What attention adds to the ordinary path and, when `dpam_attention` is given, to the patches of the local path.

    Both paths share the normalised input and its projections; with `class_token_only` the ordinary path is cut down to
    the class token, shape `(batch_size, 1, width)`.
    """
    attention = layer.self_attn
    normed = _normalise(layer.layer_norm1, hidden_states)
    query_source = normed[:, :1] if class_token_only and dpam_attention != "qq" else normed
    query = _split_heads(attention, attention.q_proj(query_source))
    key = _split_heads(attention, attention.k_proj(normed))
    value = _split_heads(attention, attention.v_proj(normed))
    attended = _attend(attention, query[:, :, :1] if class_token_only else query, key, value)
    if dpam_attention is None:
        return attended, None
    operand = {"vv": value, "qq": query, "kk": key}[dpam_attention]
    return attended, _attend(attention, operand[:, :, 1:], operand, value)


def _split_heads(attention: Any, projected: Tensor) -> Tensor:
    """(batch_size, length, width) to (batch_size, heads, length, head_dim)."""
    return projected.unflatten(-1, (attention.num_heads, attention.head_dim)).transpose(1, 2)


def _attend(attention: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attend through transformers' attention interface, then project: (batch_size, length of query, width)."""
    implementation = attention.config._attn_implementation
    if implementation == "sdpa" and query.device.type == "cpu" and query.dtype == torch.bfloat16:
        implementation = "eager"  # PyTorch's fused kernel takes twice as long there
    attend: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(implementation, _eager_attention_forward)
    dropout = attention.dropout if attention.training else 0.0
    output, _ = attend(attention, query, key, value, None, scaling=attention.scale, dropout=dropout)
    return attention.out_proj(output.flatten(2))


def _eager_attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
) -> tuple[Tensor, None]:
    """Attention spelled out, in the interface's call; returns (batch_size, length, heads, head_dim).

    Head by head, since the similarities of one head fit a processor's cache and those of all do not.
    """

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        # Rounded to bfloat16, a similarity of 20 would be off by up to 0.06, and its exponential by as much.
        similarity = (query.float() * scaling) @ key.float().T
        return F.dropout(similarity.softmax(-1).to(value.dtype), dropout, module.training) @ value

    images = zip(query, key, value, strict=True)
    return torch.stack(
        [torch.stack([attend(*head) for head in zip(*image, strict=True)], 1) for image in images]
    ), None


# ---------------------------------------------------------------------------------------------------------- the model


class AnomalyCLIPModel(HubSharing, PreTrainedModel):
    """Zero-shot anomaly detector: a frozen [`~transformers.CLIPModel`] under learned or hand-written prompts.

    Only the prompts require gradients, however the model was made or loaded.

    Args:
        config ([`AnomalyCLIPConfig`]): Sizes of the towers and the prompts.
        clip ([`~transformers.CLIPModel`], *optional*): A CLIP to wrap; random weights without.

    Example:
    ```python
    >>> import torch
    >>> from anomalyclip_hf import DEFAULT_MODEL, AnomalyCLIPModel

    >>> model = AnomalyCLIPModel.from_pretrained(DEFAULT_MODEL).eval()
    >>> height, width = model.config.input_size
    >>> with torch.no_grad():
    ...     out = model(pixel_values=torch.zeros(2, 3, height, width))
    >>> out.image_scores.shape, out.anomaly_maps.shape == (2, height, width)
    (torch.Size([2]), True)

    ```
    """

    config_class = AnomalyCLIPConfig
    config: AnomalyCLIPConfig
    base_model_prefix = ""
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    accepts_loss_kwargs = False  # otherwise Trainer rescales the loss under gradient accumulation
    _supports_sdpa = True
    _supports_attention_backend = True
    _no_split_modules = ["CLIPModel"]  # its layers' parts are called directly, so it stays on one device

    def __init__(self, config: AnomalyCLIPConfig, clip: CLIPModel | None = None):
        super().__init__(config)
        if clip is None:
            clip_config = config.to_clip_config()
            clip = CLIPModel._from_config(clip_config, attn_implementation=config._attn_implementation)
        else:
            config._attn_implementation = clip.config._attn_implementation
            for module in clip.modules():
                module._is_hf_initialized = True  # post_init leaves the given weights alone
        self.clip = clip
        config.text_config, config.vision_config = clip.config.text_config, clip.config.vision_config  # one of each
        config.check()
        if config.prompts == "learned":
            self.prompt_learner = AnomalyCLIPPromptLearner(config)
        else:
            self.prompt_ensemble = AnomalyCLIPPromptEnsemble(config)
        self._cached_text: tuple[Any, Tensor, Tensor] | None = None
        self.post_init()
        self._freeze_clip()

    def _init_weights(self, module: nn.Module) -> None:
        # transformers' `init` leaves alone what was loaded; CLIP initialises its own modules.
        if isinstance(module, AnomalyCLIPPromptLearner):
            for prompt in module.parameters():
                init.normal_(prompt, std=0.02)
        elif isinstance(module, AnomalyCLIPPromptEnsemble):
            init.zeros_(module.text_embeds)

    def _freeze_clip(self) -> None:
        self.clip.requires_grad_(False)

    def forward(
        self,
        pixel_values: Tensor | None = None,
        labels: Tensor | None = None,
        masks: Tensor | None = None,
        return_dict: bool | None = None,
        *,
        image_embeds: Tensor | None = None,
        patch_embeds: Sequence[Tensor] | None = None,
        image_weights: Tensor | None = None,
        mask_weights: Tensor | None = None,
    ) -> AnomalyCLIPOutput | tuple[Tensor, ...]:
        """Score images and their pixels.

        Args:
            pixel_values (`torch.Tensor` of shape `(batch_size, 3, height, width)`):
                Normalised as the processor does; height and width multiples of the patch size.
            labels (`torch.Tensor` of shape `(batch_size,)`, *optional*): 0 normal, 1 anomalous.
            masks (`torch.Tensor` of shape `(batch_size, mask_height, mask_width)`, *optional*):
                1 where anomalous, 0 elsewhere; with `labels`.
            return_dict (`bool`, *optional*): `False` gives a plain tuple without empty entries.
            image_embeds (`torch.Tensor` of shape `(batch_size, projection_dim)`, *optional*):
                With `patch_embeds` in place of `pixel_values`: what the frozen tower gave for images of
                `config.input_size` before, as in the output.
            patch_embeds (sequence of `torch.Tensor` of shape `(batch_size, num_patches, projection_dim)`, *optional*):
                One per tapped layer.
            image_weights (`torch.Tensor` of shape `(batch_size,)`, *optional*): What each image weighs in the loss.
            mask_weights (`torch.Tensor` of shape `(batch_size,)`, *optional*): 0 for an image without ground truth.

        Returns:
            [`AnomalyCLIPOutput`]

        Raises:
            ValueError: If a shape or the values of `masks` do not fit; the message says what was expected.
        """
        # Step 1: embeddings of the two prompts, the images and their patches
        if pixel_values is None:
            size, image_embeds, patch_embeds = self._check_embeds(image_embeds, patch_embeds)
        else:
            size = self._check_pixels(pixel_values)
            image_embeds, patch_embeds = encode_image(self.clip, pixel_values, **self.config.dual_path)
        self._check_targets(len(image_embeds), labels, masks)
        text_embeds = self.get_text_embeds()
        image_embeds = F.normalize(image_embeds.float(), dim=-1)
        patch_embeds = tuple(F.normalize(embeds.float(), dim=-1) for embeds in patch_embeds)

        # Step 2: similarities to (normal, abnormal); the two probabilities add to 1, so one map per layer says all
        with _full_precision(text_embeds):
            image_logits = image_embeds @ text_embeds.T / self.config.temperature
        patch_maps = [self._abnormal_probability(embeds, text_embeds, size) for embeds in patch_embeds]

        # Step 3: resizing is linear, so the sum over layers is resized once
        anomaly_maps = _resize(torch.stack(patch_maps).sum(0), size)

        # Step 4: the loss, on maps at the size of the masks
        loss = image_loss = pixel_loss = None
        if labels is not None:
            mask_maps = [] if masks is None else [_resize(patch_map, masks.shape[-2:]) for patch_map in patch_maps]
            config = self.config
            weights = (config.pixel_loss_weight, image_weights, mask_weights, config.image_loss_weight)
            loss, image_loss, pixel_loss = glocal_loss(image_logits, labels, mask_maps, masks, *weights)

        results: dict[str, Any] = {"loss": loss, "image_loss": image_loss, "pixel_loss": pixel_loss}
        results |= {"image_scores": image_logits.softmax(-1)[:, 1], "image_logits": image_logits}
        results |= {"text_embeds": text_embeds, "image_embeds": image_embeds, "patch_embeds": patch_embeds}
        output = AnomalyCLIPOutput(anomaly_maps=anomaly_maps, **results)
        return output.to_tuple() if return_dict is False else output

    def _abnormal_probability(self, patch_embeds: Tensor, text_embeds: Tensor, size: tuple[int, int]) -> Tensor:
        """Probability of abnormal per patch, as a grid: (batch_size, rows, columns)."""
        patch = self.config.vision_config.patch_size
        grid = (size[0] // patch, size[1] // patch)
        with _full_precision(text_embeds):
            difference = patch_embeds @ (text_embeds[1] - text_embeds[0])  # a softmax over two is a sigmoid
        return (difference / self.config.temperature).sigmoid().unflatten(1, grid)

    def get_text_embeds(self) -> Tensor:
        """Embed the two prompts; without gradients the result is kept until a prompt or the text tower changes.

        Returns:
            `torch.Tensor` of shape `(2, projection_dim)`: float32, row 0 normal, row 1 abnormal, L2-normalised.
        """
        if self.config.prompts == "ensemble":
            return F.normalize(self.prompt_ensemble.text_embeds.float(), dim=-1)
        if torch.is_grad_enabled():
            return self._encode_prompts()

        # Values, not versions: optimisers that write through `.data` leave no version behind.
        prompts = torch.cat([prompt.detach().flatten() for prompt in self.prompt_learner.parameters()])
        tower = _fingerprint(self.clip.text_model, self.clip.text_projection)
        if self._cached_text is not None:
            cached_tower, cached_prompts, text_embeds = self._cached_text
            if cached_tower == tower and torch.equal(cached_prompts, prompts):
                return text_embeds.clone()  # what callers do to theirs stays with them
        # Outside inference mode, so that a later forward may need gradients; in full precision whoever asks first.
        with torch.inference_mode(False), torch.no_grad(), _full_precision(prompts):
            text_embeds = self._encode_prompts()
        self._cached_text = (tower, prompts.clone(), text_embeds)
        return text_embeds.clone()

    def _encode_prompts(self) -> Tensor:
        token_embeds, end_positions = self.prompt_learner(self.clip.text_model.embeddings.token_embedding)
        return encode_text(self.clip, token_embeds, end_positions, self.prompt_learner.deep_prompts)

    def _check_pixels(self, pixel_values: Tensor) -> tuple[int, int]:
        """See that the images fit, and give their height and width."""
        patch = self.config.vision_config.patch_size
        shape = tuple(pixel_values.shape)
        if len(shape) != 4 or shape[1] != self.config.vision_config.num_channels:
            raise ValueError(f"pixel_values has shape {shape}; expected (batch_size, 3, height, width).")
        if shape[0] == 0:
            raise ValueError("pixel_values holds no image; expected a batch of at least one.")
        if min(shape[2:]) < patch or shape[2] % patch or shape[3] % patch:
            raise ValueError(
                f"pixel_values is {shape[2]}x{shape[3]} px; expected multiples of the patch size {patch}. "
                "AnomalyCLIPProcessor resizes to a size that fits."
            )
        return shape[2], shape[3]

    def _check_embeds(
        self, image_embeds: Tensor | None, patch_embeds: Sequence[Tensor] | None
    ) -> tuple[tuple[int, int], Tensor, Sequence[Tensor]]:
        """See that embeddings fit the configuration; gives the size of the images they are of, and the embeddings."""
        if image_embeds is None or patch_embeds is None:
            raise ValueError("got neither pixel_values nor both image_embeds and patch_embeds; expected one of them.")
        (height, width), patch = self.config.input_size, self.config.vision_config.patch_size
        expected = (len(image_embeds), (height // patch) * (width // patch), self.config.projection_dim)
        shapes = [tuple(embeds.shape) for embeds in patch_embeds]
        layers = len(self.config.dual_path["feature_layers"])
        if shapes != [expected] * layers or image_embeds.shape != expected[::2]:
            raise ValueError(
                f"image_embeds has shape {tuple(image_embeds.shape)} and patch_embeds {shapes}; expected "
                f"{expected[::2]} and, for each of {layers} tapped layers, {expected}."
            )
        return (height, width), image_embeds, patch_embeds

    def _check_targets(self, batch_size: int, labels: Tensor | None, masks: Tensor | None) -> None:
        if labels is not None and tuple(labels.shape) != (batch_size,):
            raise ValueError(f"labels has shape {tuple(labels.shape)}; expected ({batch_size},), one label per image.")
        if labels is not None and not ((labels == 0) | (labels == 1)).all():
            raise ValueError(f"labels are {labels.tolist()}; expected 0 (normal) and 1 (anomalous).")
        if masks is not None:
            self._check_masks(batch_size, labels, masks)

    @staticmethod
    def _check_masks(batch_size: int, labels: Tensor | None, masks: Tensor) -> None:
        if labels is None:
            raise ValueError("masks were given without labels; the loss needs both.")
        if masks.ndim != 3 or masks.shape[0] != batch_size or not masks.numel():
            raise ValueError(f"masks has shape {tuple(masks.shape)}; expected ({batch_size}, height, width).")
        if not ((masks >= 0) & (masks <= 1)).all():
            raise ValueError(
                f"masks go from {masks.min().item()} to {masks.max().item()}; expected 0 and 1. "
                "AnomalyCLIPProcessor makes these."
            )

    # ------------------------------------------------------------------------------------------ loading and saving

    @classmethod
    def from_clip_pretrained(
        cls, clip_name_or_path: str, *, prompts: str = "learned", tokenizer: Any = None, **kwargs: Any
    ) -> "AnomalyCLIPModel":
        """Put fresh prompts on a CLIP.

        Args:
            clip_name_or_path (`str`): Hub id or folder that [`~transformers.CLIPModel`] loads.
            prompts (`str`, *optional*, defaults to `"learned"`):
                `"learned"`: random prompts, to be trained. `"ensemble"`: hand-written sentences, ready to use.
            tokenizer ([`~transformers.CLIPTokenizer`], *optional*):
                Defaults to the one that comes with the CLIP; read only where the token ids are not known already.
            **kwargs: Arguments of [`AnomalyCLIPConfig`] override its defaults; the rest (`revision`, `token`, `dtype`,
                `cache_dir`, `local_files_only`, `attn_implementation`, …) goes to `CLIPModel.from_pretrained`.

        Returns:
            [`AnomalyCLIPModel`]: in evaluation mode, only the prompts trainable.

        Raises:
            ValueError: If the settings contradict each other or the CLIP.
            OSError: If the CLIP or its tokenizer cannot be read; the message names the file.

        Example:
        ```python
        >>> from anomalyclip_hf import DEFAULT_MODEL, AnomalyCLIPModel

        >>> clip_folder = str(getfixture("clip_folder"))  # or "openai/clip-vit-large-patch14-336"
        >>> model = AnomalyCLIPModel.from_clip_pretrained(clip_folder, prompts="ensemble")
        >>> model.num_parameters(only_trainable=True)
        0

        ```
        """
        overrides = {name: kwargs.pop(name) for name in set(kwargs) & own_settings()}
        if os.path.isdir(clip_name_or_path):
            clip_name_or_path = os.path.abspath(clip_name_or_path)  # prompts saved elsewhere must find it again
        kwargs = pin_commit(clip_name_or_path, kwargs)
        clip, _ = _load_clip(clip_name_or_path, **kwargs)

        overrides.setdefault("base_model_name_or_path", str(clip_name_or_path))
        overrides.setdefault("base_model_revision", find_commit(clip_name_or_path, **kwargs))
        overrides.setdefault("base_model_subfolder", kwargs.get("subfolder"))

        def tokenizer_of_clip() -> Any:
            return tokenizer or load_tokenizer(clip_name_or_path, **kwargs)

        return cls.from_clip(clip, tokenizer_of_clip, prompts=prompts, **overrides)

    @classmethod
    def from_clip(
        cls, clip: CLIPModel, load_tokenizer: Callable[[], Any], *, prompts: str = "learned", **overrides: Any
    ) -> "AnomalyCLIPModel":
        """Put fresh prompts on a CLIP that is in memory already.

        Args:
            clip ([`~transformers.CLIPModel`]): The CLIP; it is wrapped and frozen, not copied.
            load_tokenizer (`Callable`): Gives the CLIP's tokenizer; called only where token ids are not known already.
            prompts (`str`, *optional*, defaults to `"learned"`): `"learned"` or `"ensemble"`.
            **overrides: Arguments of [`AnomalyCLIPConfig`]; prompts go no deeper than the text tower by default.

        Returns:
            [`AnomalyCLIPModel`]: in evaluation mode, only the prompts trainable.

        Raises:
            ValueError: If the settings contradict each other or the CLIP, or shape learned prompts and there are none.
        """
        if prompts == "ensemble":
            check_ensemble_settings(overrides)
        overrides.setdefault("deep_prompt_depth", min(PAPER_PROMPT_DEPTH, clip.config.text_config.num_hidden_layers))
        # The words are tokenised by a configuration that needs no token ids.
        draft = AnomalyCLIPConfig.from_clip_config(clip.config, **{**overrides, "prompts": "ensemble"})
        for name, words in zip(("normal_token_ids", "abnormal_token_ids"), draft.prompt_words, strict=True):
            if prompts == "learned" and getattr(draft, name) is None:
                overrides[name] = load_tokenizer()(words)["input_ids"]
        config = AnomalyCLIPConfig.from_clip_config(clip.config, **{**overrides, "prompts": prompts})
        model = cls(config, clip=clip)
        if prompts == "ensemble":
            tokenizer = load_tokenizer()
            embeds = [encode_sentences(clip, tokenizer, texts) for texts in ensemble_sentences(config.object_name)]
            model.prompt_ensemble.text_embeds = torch.stack(embeds)
        return model.to(device=clip.device, dtype=clip.dtype).eval()

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike,
        *model_args: Any,
        config: AnomalyCLIPConfig | None = None,
        **kwargs: Any,
    ) -> Any:
        """Load a model from a folder or the Hub: whole, or prompts with a reference to their CLIP.

        Args:
            pretrained_model_name_or_path (`str` or `os.PathLike`): Hub id or folder.
            *model_args: Passed on.
            config ([`AnomalyCLIPConfig`], *optional*): Defaults to the one that is stored there.
            **kwargs: As for [`~transformers.PreTrainedModel.from_pretrained`] (`revision`, `token`, `dtype`, …).

        Returns:
            [`AnomalyCLIPModel`]: in evaluation mode, only the prompts trainable; with `output_loading_info=True` a
            tuple of it and what was loaded.

        Raises:
            OSError: If a file is missing, cut short or unreadable; the message names it.
            ValueError: If tensors are missing, left over or of another shape than the configuration says.
        """
        if isinstance(config, str | os.PathLike):  # elsewhere, where this commit means nothing
            config = cls._load_config(config, None, kwargs)
        kwargs = pin_commit(pretrained_model_name_or_path, kwargs)
        names_base_model = "base_model_name_or_path" in kwargs
        config = cls._load_config(pretrained_model_name_or_path, config, kwargs)
        kwargs.pop("ignore_mismatched_sizes", None)  # a checkpoint that does not fit is never filled up
        prompts_file = find_file(pretrained_model_name_or_path, PROMPTS_FILE, **kwargs)
        if prompts_file is not None:
            if not names_base_model:
                check_base_reference(config, pretrained_model_name_or_path, **kwargs)
            return cls._from_prompts_file(prompts_file, config, **kwargs)
        wants_loading_info = kwargs.pop("output_loading_info", False)
        kwargs = check_weights(pretrained_model_name_or_path, expected_state(cls, config), kwargs)
        with readable_weights(pretrained_model_name_or_path):
            model, info = super().from_pretrained(
                pretrained_model_name_or_path,
                *model_args,
                config=config,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # checked below, in one line
                **kwargs,
            )
        check_loading_info(info, pretrained_model_name_or_path)
        check_finite(model.state_dict(), pretrained_model_name_or_path)
        model._freeze_clip()
        return (model, info) if wants_loading_info else model

    @classmethod
    def _load_config(cls, source: Any, config: Any, kwargs: dict[str, Any]) -> AnomalyCLIPConfig:
        """Load the configuration, and take the settings that override it out of `kwargs`."""
        overrides = {name: kwargs.pop(name) for name in set(kwargs) & own_settings()}
        if not isinstance(config, PreTrainedConfig):  # remote code may come with a copy of our class
            return AnomalyCLIPConfig.from_pretrained(source, **overrides, **hub_arguments(kwargs))
        if config.model_type != AnomalyCLIPConfig.model_type:
            raise ValueError(f"config is a {type(config).__name__}; expected an AnomalyCLIPConfig.")
        if overrides:
            config = copy.deepcopy(config)  # the caller's stays as it is
            config.override(overrides)
        return config

    @classmethod
    def _from_prompts_file(cls, prompts_file: str, config: AnomalyCLIPConfig, **kwargs: Any) -> Any:
        if config.base_model_name_or_path is None:
            raise ValueError(
                f"{prompts_file} holds prompts only and its config.json names no base_model_name_or_path; add the "
                "CLIP's Hub id or folder there, or save the model again with base_model_name_or_path=..."
            )
        # Where the prompts are says nothing about where their CLIP is.
        elsewhere = ("subfolder", "_commit_hash", "code_revision")
        clip_kwargs = {name: value for name, value in kwargs.items() if name not in elsewhere}
        clip_kwargs["revision"] = config.base_model_revision or "main"
        clip_kwargs["subfolder"] = config.base_model_subfolder or ""
        try:
            clip, info = _load_clip(config.base_model_name_or_path, **clip_kwargs)
        except OSError as error:
            raise OSError(
                f"{prompts_file} needs the CLIP under its prompts: {one_line(error)} If it is elsewhere, pass "
                "base_model_name_or_path=... to from_pretrained."
            ) from error
        check_base_model(config, clip.config)
        model = cls(config, clip=clip)
        load_prompts_file(model, prompts_file)
        model = model.to(device=clip.device, dtype=clip.dtype).eval()
        return (model, info) if kwargs.get("output_loading_info") else model

    def save_pretrained(
        self,
        save_directory: str | os.PathLike,
        *args: Any,
        prompts_only: bool = False,
        include_code: bool = False,
        **kwargs: Any,
    ) -> None:
        """Save the model whole, or only its prompts with a reference to the CLIP under them.

        Args:
            save_directory (`str` or `os.PathLike`): Folder; made where missing.
            *args: Passed on.
            prompts_only (`bool`, *optional*, defaults to `False`):
                Write `prompts.safetensors` (about 170 KB for ViT-L/14) instead of all weights. The CLIP must be as it
                was loaded: changes to it are not saved.
            include_code (`bool`, *optional*, defaults to `False`):
                Put the model's code beside it, for `trust_remote_code=True` where this package is not installed.
            **kwargs: `base_model_name_or_path`, with `base_model_revision` and `base_model_subfolder`, the CLIP that
                loading shall put under the prompts, by default the one that the model was made from; what
                [`~transformers.PreTrainedModel.save_pretrained`] takes, for a whole model only; and, with
                `push_to_hub=True`, `repo_id` and what [`push_to_hub`] takes.

        Raises:
            OSError: If the disk is full.
            ValueError: If the CLIP is not known, or the folder holds a model in the other form.
        """
        self.config.override({name: base for name in BASE_MODEL if (base := kwargs.pop(name, None)) is not None})
        push_arguments = take_push_arguments(kwargs, save_directory)
        prepare_folder(save_directory, self.config, prompts_only)
        if prompts_only:
            if args or kwargs:
                raise ValueError(f"prompts_only=True does not take {', '.join(kwargs) or 'further arguments'}.")
            save_prompts_file(self, save_directory)
        else:
            with writable_weights(save_directory):
                super().save_pretrained(save_directory, *args, **kwargs)
        if include_code:
            add_code(save_directory)
        if push_arguments is not None:
            self.push_to_hub(**push_arguments, prompts_only=prompts_only, include_code=include_code)


def _load_clip(source: str, **kwargs: Any) -> tuple[CLIPModel, dict[str, Any]]:
    """Load a CLIP and refuse one that its weights do not fill exactly."""
    kwargs = pin_commit(source, kwargs)
    kwargs = check_weights(source, expected_state(CLIPModel, load_clip_config(source, **kwargs)), kwargs)
    kwargs.update(output_loading_info=True, ignore_mismatched_sizes=True)  # checked below, in one line
    with readable_weights(source):
        clip, info = CLIPModel.from_pretrained(source, **kwargs)
    check_loading_info(info, source)
    check_finite(clip.state_dict(), source)
    return clip, info


def _fingerprint(*modules: nn.Module) -> tuple[tuple[int, int], ...]:
    """Changes whenever a parameter is replaced or written in place."""
    parameters = (parameter for module in modules for parameter in module.parameters())
    return tuple((p.data_ptr(), -1 if p.is_inference() else p._version) for p in parameters)


def _full_precision(tensor: Tensor) -> AbstractContextManager:
    """Where autocast is on, leave it off for what follows."""
    kind = tensor.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()


def _resize(maps: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Upsample (batch_size, rows, columns) bilinearly to a height and width."""
    return F.interpolate(maps[:, None], size=tuple(size), mode="bilinear", align_corners=False)[:, 0]


__all__ = ["AnomalyCLIPModel", "AnomalyCLIPOutput"]
