# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""AnomalyCLIP (arXiv 2310.18961): a frozen CLIP, two learned prompts and a second attention path for its patches.

Read from top to bottom: the prompts, the text encoder that reads them, the dual-path vision encoder, and the model
that turns their similarities into image scores and anomaly maps. Loading and saving are in `loading_anomalyclip`.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPModel
from transformers import initialization as init
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils import ModelOutput

from .configuration_anomalyclip import AnomalyCLIPConfig
from .loading_anomalyclip import AnomalyCLIPPreTrainedModel
from .losses_anomalyclip import GlocalLoss, glocal_loss
from .postprocessing_anomalyclip import smoothing_matrix


@dataclass
class AnomalyCLIPOutput(ModelOutput):
    """Hold what [`AnomalyCLIPModel`] returns. Higher scores mean more anomalous; all embeddings are L2-normalised.

    Args:
        loss (`torch.Tensor`, *optional*): Scalar, image loss plus weighted pixel loss; with `labels`.
        image_loss (`torch.Tensor`, *optional*): Scalar, cross-entropy of the image logits; with `labels`.
        pixel_loss (`torch.Tensor`, *optional*): Scalar, focal and Dice losses before their weight; with `masks`.
        image_scores (`torch.Tensor` of shape `(batch_size,)`): Probability of abnormal, in [0, 1].
        image_logits (`torch.Tensor` of shape `(batch_size, 2)`): Similarity to (normal, abnormal) over temperature.
        anomaly_maps (`torch.Tensor` of shape `(batch_size, height, width)`):
            Sum over the selected layers of the probability of abnormal, from 0 to the number of these layers; float32,
            not smoothed, at the size of the input.
        text_embeds (`torch.Tensor` of shape `(2, projection_dim)`): Row 0 normal, row 1 abnormal.
        image_embeds (`torch.Tensor` of shape `(batch_size, projection_dim)`): From the class token.
        patch_embeds (`tuple` of `torch.Tensor` of shape `(batch_size, num_patches, projection_dim)`):
            One entry per selected layer, row-major, without the class token.
        patch_features (`tuple` of `torch.Tensor` of shape `(batch_size, num_patches, width)`, *optional*):
            One entry per layer in `patch_feature_layers`, as [`~AnomalyCLIPModel.get_patch_features`] returns them:
            not normalised.
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
    patch_features: tuple[Tensor, ...] | None = None


# ---------------------------------------------------------------------------------------------------------- prompts


class AnomalyCLIPPromptLearner(nn.Module):
    """Hold the learnable vectors: one prompt per class at the input, and deep prompts that both classes share.

    Paper, sections 3.2 and 3.3. All shapes in the width of the text tower. The vectors stay in float32 on a CLIP in 16
    bits and are cast where they are used, since training in 16 bits would lose small updates.

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
        """Join start of text, the learnable vectors, and the words with end of text.

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
    """Hold the mean embeddings of hand-written sentences, which are stored with the weights.

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

    Raises:
        ValueError: If a sentence is longer than the text tower can read, or the tokenizer is another CLIP's.
    """
    config = clip.config.text_config
    token_ids = [torch.tensor(ids) for ids in tokenizer(sentences)["input_ids"]]
    for sentence, ids in zip(sentences, token_ids, strict=True):
        if len(ids) > config.max_position_embeddings:
            raise ValueError(
                f"{sentence!r:.100} has {len(ids)} tokens; the text tower has {config.max_position_embeddings} "
                "positions. Use a shorter object_name."
            )
        if ids.max() >= config.vocab_size:
            raise ValueError(
                f"the tokenizer gives {sentence!r:.100} the token id {ids.max()}; expected ids below "
                f"{config.vocab_size}, the vocabulary of the text tower. Is it the CLIP's own tokenizer?"
            )
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
    patch_feature_layers: Sequence[int] = (),
) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Run CLIP's vision tower with the diagonally prominent attention map (DPAM, paper, section 3.2).

    In the last `dpam_layers` layers a local path runs beside the ordinary one. It starts as the hidden state that
    enters the first of them, adds the output of v-v attention of each, has no MLP, and never feeds back.

    Args:
        clip ([`~transformers.CLIPModel`]): Gives the vision tower and its projection.
        pixel_values (`torch.Tensor` of shape `(batch_size, 3, height, width)`): Normalised; multiples of the patch.
        dpam_layers (`int`): Number of last layers with a local path; with 0 the plain hidden states are read.
        feature_layers (`Sequence[int]`): Selected layers, counted from 1, ascending.
        dpam_attention (`str`, *optional*, defaults to `"vv"`): Operands of the softmax in the local path.
        patch_feature_layers (`Sequence[int]`, *optional*): Layers whose hidden states of the ordinary path are
            returned too.

    Returns:
        `tuple`: image embeddings `(batch_size, projection_dim)` of the class token; per selected layer patch
        embeddings `(batch_size, num_patches, projection_dim)`; per layer of `patch_feature_layers` hidden states of
        the patches `(batch_size, num_patches, width)`. None is normalised.
    """
    class_token, selected, plain = _run_vision_tower(
        clip.vision_model, pixel_values, dpam_layers, feature_layers, dpam_attention, patch_feature_layers
    )
    image_embeds = clip.visual_projection(class_token.to(clip.visual_projection.weight.dtype))
    norm = clip.vision_model.post_layernorm
    patch_embeds = tuple(clip.visual_projection(_normalise(norm, states)) for states in selected)
    return image_embeds, patch_embeds, tuple(plain[layer] for layer in patch_feature_layers)


def _run_vision_tower(
    vision_model: Any,
    pixel_values: Tensor,
    dpam_layers: int,
    feature_layers: Sequence[int],
    dpam_attention: str,
    plain_layers: Sequence[int] = (),
    needs_class_token: bool = True,
) -> tuple[Tensor, list[Tensor], dict[int, Tensor]]:
    """Return the last hidden state of the class token, and hidden states of the patches.

    Those of the selected layers are of the local path where a layer has one; those of `plain_layers` are of the
    ordinary path. All are sums before `post_layernorm`: (batch_size, width) and (batch_size, num_patches, width).
    Without the class token, the layers after the last that is read are left out.
    """
    hidden_states = _embed_patches(vision_model, pixel_values)
    hidden_states = hidden_states.to(_sums_dtype(vision_model, pixel_values.device))
    local_states: Any = None  # (batch_size, num_patches, width) once the first dual layer is reached
    layers = vision_model.encoder.layers
    last_selected, last_read = max(feature_layers, default=0), max([*feature_layers, *plain_layers], default=0)
    selected, plain = [], {}
    for number, layer in enumerate(layers, start=1):
        if number > last_read and not needs_class_token:
            break
        has_local_path = len(layers) - dpam_layers < number <= last_selected
        if has_local_path and local_states is None:
            local_states = hidden_states[:, 1:].float()
        # Of the last layer only the class token is read, unless its plain patches are.
        reads_patches = number in plain_layers or (number in feature_layers and not has_local_path)
        class_token_only = number == len(layers) and not reads_patches
        attended, local_update = _dual_path_attention(
            layer, hidden_states, dpam_attention if has_local_path else None, class_token_only
        )
        hidden_states = (hidden_states[:, :1] if class_token_only else hidden_states) + attended
        hidden_states = hidden_states + layer.mlp(_normalise(layer.layer_norm2, hidden_states))
        if local_update is not None:
            local_states = local_states + local_update
        if number in feature_layers:
            selected.append(hidden_states[:, 1:] if local_states is None else local_states)
        if number in plain_layers:
            plain[number] = hidden_states[:, 1:].float()
    return hidden_states[:, 0], selected, plain


def _embed_patches(vision_model: Any, pixel_values: Tensor) -> Tensor:
    """Embed and normalise patches and class token; positions are resized bilinearly, not bicubically, as in the paper.

    This happens in float32 whatever the dtype of the weights: bfloat16 cannot tell neighbouring grey levels apart.
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


def _sums_dtype(vision_model: Any, device: torch.device) -> torch.dtype:
    """Return the dtype in which the ordinary path sums over layers; the local path does so in float32.

    Float32 on a CPU, since 16 bits round the sum at every layer. On a GPU the tower's own: the layers wait for memory
    there, and maps hardly change.
    """
    return vision_model.pre_layrnorm.weight.dtype if device.type == "cuda" else torch.float32


def _normalise(norm: Any, hidden_states: Tensor) -> Tensor:
    """Apply a LayerNorm to sums over layers; return the dtype of the weights, in which layers compute."""
    return norm(hidden_states.to(norm.weight.dtype))


def _dual_path_attention(
    layer: Any, hidden_states: Tensor, dpam_attention: str | None, class_token_only: bool
) -> tuple[Tensor, Tensor | None]:
    """Return what attention adds to the ordinary path and, with `dpam_attention`, to the patches of the local path.

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
    """Reshape (batch_size, length, width) to (batch_size, heads, length, head_dim)."""
    return projected.unflatten(-1, (attention.num_heads, attention.head_dim)).transpose(1, 2)


def _attend(attention: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attend through transformers' attention interface, then project: (batch_size, length of query, width)."""
    implementation, dtype = attention.config._attn_implementation, value.dtype
    attend: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(implementation, _eager_attention_forward)
    if query.device.type == "cpu" and dtype == torch.bfloat16:  # faster in float32, and more accurate
        layout = torch.contiguous_format  # each head's rows side by side: the kernel reads them a tenth faster
        query, key, value = (states.to(torch.float32, memory_format=layout) for states in (query, key, value))
    dropout = attention.dropout if attention.training else 0.0
    output, _ = attend(attention, query, key, value, None, scaling=attention.scale, dropout=dropout)
    return attention.out_proj(output.flatten(2).to(dtype))


def _eager_attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
) -> tuple[Tensor, None]:
    """Compute attention in plain operations, with the signature of transformers' attention interface.

    Returns (batch_size, length, heads, head_dim). It goes head by head, since the similarities of one head fit a
    processor's cache and those of all do not; a compiler, which does that by itself, gets one expression.
    """

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        # Rounded to bfloat16, a similarity of 20 would be off by up to 0.06, and its exponential by as much.
        similarity = (query.float() * scaling) @ key.float().transpose(-2, -1)
        return F.dropout(similarity.softmax(-1).to(value.dtype), dropout, module.training) @ value

    if torch.compiler.is_compiling():
        return attend(query, key, value).transpose(1, 2), None
    images = zip(query, key, value, strict=True)
    return torch.stack(
        [torch.stack([attend(*head) for head in zip(*image, strict=True)], 1) for image in images]
    ), None


# ---------------------------------------------------------------------------------------------------------- the model


class AnomalyCLIPModel(AnomalyCLIPPreTrainedModel):
    """Detect anomalies without training images: a frozen [`~transformers.CLIPModel`] under learned or written prompts.

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
        self.frozen_text_embeds: Tensor | None
        self.register_buffer("frozen_text_embeds", None, persistent=False)
        if config.prompts == "learned":
            self.prompt_learner = AnomalyCLIPPromptLearner(config)
        else:
            self.prompt_ensemble = AnomalyCLIPPromptEnsemble(config)
        self._cached_text: tuple[Any, Tensor, Tensor] | None = None
        self.post_init()
        self.clip.requires_grad_(False)

    def _init_weights(self, module: nn.Module) -> None:
        # transformers' `init` leaves alone what was loaded; CLIP initialises its own modules.
        if isinstance(module, AnomalyCLIPPromptLearner):
            for prompt in module.parameters():
                init.normal_(prompt, std=0.02)
        elif isinstance(module, AnomalyCLIPPromptEnsemble):
            init.zeros_(module.text_embeds)

    def forward(
        self,
        pixel_values: Tensor | None = None,
        labels: Tensor | None = None,
        masks: Tensor | None = None,
        text_embeds: Tensor | None = None,
        return_dict: bool | None = None,
        *,
        image_embeds: Tensor | None = None,
        patch_embeds: Sequence[Tensor] | None = None,
        image_weights: Tensor | None = None,
        mask_weights: Tensor | None = None,
        patch_feature_layers: Sequence[int] = (),
        **kwargs: Any,
    ) -> AnomalyCLIPOutput | tuple[Tensor, ...]:
        """Score images and their pixels.

        Args:
            pixel_values (`torch.Tensor` of shape `(batch_size, 3, height, width)`):
                Normalised as the processor does; height and width multiples of the patch size.
            labels (`torch.Tensor` of shape `(batch_size,)`, *optional*): 0 normal, 1 anomalous.
            masks (`torch.Tensor` of shape `(batch_size, mask_height, mask_width)`, *optional*):
                1 where anomalous, 0 elsewhere; with `labels`.
            text_embeds (`torch.Tensor` of shape `(2, projection_dim)`, *optional*):
                Take the place of the prompts' embeddings: row 0 normal, row 1 abnormal; normalised here.
            return_dict (`bool`, *optional*): `False` gives a plain tuple without empty entries.
            image_embeds (`torch.Tensor` of shape `(batch_size, projection_dim)`, *optional*):
                With `patch_embeds` in place of `pixel_values`: earlier outputs for images of `config.input_size`.
            patch_embeds (sequence of `torch.Tensor` of shape `(batch_size, num_patches, projection_dim)`, *optional*):
                One per selected layer.
            image_weights (`torch.Tensor` of shape `(batch_size,)`, *optional*): What each image weighs in the loss.
            mask_weights (`torch.Tensor` of shape `(batch_size,)`, *optional*): 0 for an image without ground truth.
            patch_feature_layers (`Sequence[int]`, *optional*): Vision layers, counted from 1, whose patch features are
                returned too, in this order, from the same pass.
            **kwargs: Ignored; for callers that pass the same arguments to all models.

        Returns:
            [`AnomalyCLIPOutput`]

        Raises:
            ValueError: If a shape, or on a CPU a value of `labels` or `masks`, does not fit. On a GPU a wrong value
                stops the computation with an assertion of the device, since looking at it would force a wait.
        """
        # Step 1: embeddings of the two prompts, the images and their patches
        patch_features: tuple[Tensor, ...] = ()
        if pixel_values is None:
            size, image_embeds, patch_embeds = self._check_embeds(image_embeds, patch_embeds)
        else:
            size = self._check_pixels(pixel_values)
            self._check_layers(patch_feature_layers)
            image_embeds, patch_embeds, patch_features = encode_image(
                self.clip, pixel_values, **self.config.dual_path, patch_feature_layers=patch_feature_layers
            )
        self._check_targets(image_embeds.shape[0], labels, masks)
        text_embeds = self.get_text_embeds() if text_embeds is None else self._check_text_embeds(text_embeds)
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
            weights = (image_weights, mask_weights)
            loss, image_loss, pixel_loss = self._loss(image_logits, labels, mask_maps, masks, *weights)

        results: dict[str, Any] = {"loss": loss, "image_loss": image_loss, "pixel_loss": pixel_loss}
        results |= {"image_scores": image_logits.softmax(-1)[:, 1], "image_logits": image_logits}
        results |= {"text_embeds": text_embeds, "image_embeds": image_embeds, "patch_embeds": patch_embeds}
        results |= {"patch_features": patch_features or None}
        output = AnomalyCLIPOutput(anomaly_maps=anomaly_maps, **results)
        return output.to_tuple() if return_dict is False else output

    def _loss(
        self,
        image_logits: Tensor,
        labels: Tensor,
        maps: Sequence[Tensor],
        masks: Tensor | None,
        image_weights: Tensor | None,
        mask_weights: Tensor | None,
    ) -> GlocalLoss:
        """Compute the loss with the weights of the configuration."""
        pixel_weight, image_weight = self.config.pixel_loss_weight, self.config.image_loss_weight
        return glocal_loss(image_logits, labels, maps, masks, pixel_weight, image_weights, mask_weights, image_weight)

    def _abnormal_probability(self, patch_embeds: Tensor, text_embeds: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the probability of abnormal per patch, as a grid: (batch_size, rows, columns)."""
        patch = self.config.vision_config.patch_size
        grid = (size[0] // patch, size[1] // patch)
        with _full_precision(text_embeds):
            difference = patch_embeds @ (text_embeds[1] - text_embeds[0])  # a softmax over two is a sigmoid
        return (difference / self.config.temperature).sigmoid().unflatten(1, grid)

    def get_image_features(self, pixel_values: Tensor) -> Tensor:
        """Embed images as the class token sees them.

        Args:
            pixel_values (`torch.Tensor` of shape `(batch_size, 3, height, width)`): As for `forward`.

        Returns:
            `torch.Tensor` of shape `(batch_size, projection_dim)`: not normalised, and without `post_layernorm`, by
            which it differs from [`~transformers.CLIPModel.get_image_features`].
        """
        self._check_pixels(pixel_values)
        return encode_image(self.clip, pixel_values, dpam_layers=0, feature_layers=())[0]

    def get_patch_features(self, pixel_values: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """Return hidden states of the patches in some vision layers, of the ordinary path, for comparing images.

        Args:
            pixel_values (`torch.Tensor` of shape `(batch_size, 3, height, width)`): As for `forward`.
            layers (`Sequence[int]`): Vision layers, counted from 1, in any order.

        Returns:
            `list[torch.Tensor]`: per layer, in that order, float32 of shape `(batch_size, num_patches, width)`, before
            `post_layernorm` and projection, row-major, without the class token.

        Raises:
            ValueError: If there is no such layer.
        """
        self._check_pixels(pixel_values)
        if not layers:
            raise ValueError("layers is empty; expected at least one.")
        self._check_layers(layers)
        settings = {**self.config.dual_path, "feature_layers": (), "plain_layers": layers}
        _, _, states = _run_vision_tower(self.clip.vision_model, pixel_values, **settings, needs_class_token=False)
        return [states[layer] for layer in layers]

    def _check_layers(self, layers: Sequence[int]) -> None:
        count = self.config.vision_config.num_hidden_layers
        if not all(1 <= layer <= count for layer in layers):
            raise ValueError(f"layers is {list(layers)!r}; expected numbers from 1 to {count}.")

    def freeze_prompts(self) -> Self:
        """Compute the text embeddings once and keep them in a buffer, for inference, export and compilation.

        From here on `forward` has no Python state and does not wait for the device. Later changes to the prompts or
        the text tower change nothing; a later change of dtype rounds the buffer. It is not saved; the prompts are.

        Returns:
            [`AnomalyCLIPModel`]: this model, with nothing left to train.
        """
        with torch.no_grad():
            self.frozen_text_embeds = self.get_text_embeds()
        for prompts in self.children():
            prompts.requires_grad_(False)
        return self

    @torch.no_grad()
    def fill_ensemble(self, tokenizer: Any, sentences: tuple[list[str], list[str]]) -> None:
        """Embed the sentences that take the place of learned prompts.

        Args:
            tokenizer ([`~transformers.CLIPTokenizer`]): The tokenizer that the CLIP was trained with.
            sentences (`tuple[list[str], list[str]]`): About normal and about damaged things.
        """
        embeds = [encode_sentences(self.clip, tokenizer, texts) for texts in sentences]
        self.prompt_ensemble.text_embeds = torch.stack(embeds)

    def get_text_embeds(self) -> Tensor:
        """Embed the two prompts; without gradients the result is kept until a prompt or the text tower changes.

        Returns:
            `torch.Tensor` of shape `(2, projection_dim)`: float32, row 0 normal, row 1 abnormal, L2-normalised.
        """
        if self.frozen_text_embeds is not None:
            return F.normalize(self.frozen_text_embeds.float(), dim=-1)
        if self.config.prompts == "ensemble":
            return F.normalize(self.prompt_ensemble.text_embeds.float(), dim=-1)
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
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
        """Check the shape of the images, and return their height and width."""
        if not isinstance(pixel_values, Tensor) or not pixel_values.is_floating_point():
            got = f"of type {getattr(pixel_values, 'dtype', type(pixel_values).__name__)}"
            raise ValueError(
                f"pixel_values is {got}; expected a float tensor (batch_size, 3, height, width); "
                "prepare images with AnomalyCLIPProcessor."
            )
        patch = self.config.vision_config.patch_size
        shape = tuple(pixel_values.shape)
        if len(shape) != 4 or shape[1] != self.config.vision_config.num_channels:
            raise ValueError(f"pixel_values has shape {shape}; expected (batch_size, 3, height, width).")
        if shape[0] == 0:
            raise ValueError("pixel_values contains no image; expected a batch of at least one.")
        if min(shape[2:]) < patch or shape[2] % patch or shape[3] % patch:
            raise ValueError(
                f"pixel_values is {shape[2]}x{shape[3]} px; expected multiples of the patch size {patch}. "
                "AnomalyCLIPProcessor resizes to a size that fits."
            )
        return shape[2], shape[3]

    def _check_embeds(
        self, image_embeds: Tensor | None, patch_embeds: Sequence[Tensor] | None
    ) -> tuple[tuple[int, int], Tensor, Sequence[Tensor]]:
        """Check that embeddings fit the configuration; return the size of their images, and the embeddings."""
        if image_embeds is None or patch_embeds is None:
            raise ValueError("got neither pixel_values nor both image_embeds and patch_embeds; expected one of them.")
        (height, width), patch = self.config.input_size, self.config.vision_config.patch_size
        expected = (image_embeds.shape[0], (height // patch) * (width // patch), self.config.projection_dim)
        shapes = [tuple(embeds.shape) for embeds in patch_embeds]
        layers = len(self.config.dual_path["feature_layers"])
        if shapes != [expected] * layers or image_embeds.shape != expected[::2]:
            raise ValueError(
                f"image_embeds has shape {tuple(image_embeds.shape)} and patch_embeds {shapes}; expected "
                f"{expected[::2]} and, for each of {layers} selected layers, {expected}."
            )
        return (height, width), image_embeds, patch_embeds

    def _check_text_embeds(self, text_embeds: Tensor) -> Tensor:
        """Check the shape of text embeddings, and normalise them."""
        shape, expected = tuple(text_embeds.shape), (2, self.config.projection_dim)
        if shape != expected:
            raise ValueError(f"text_embeds has shape {shape}; expected {expected}: normal, abnormal.")
        return F.normalize(text_embeds.float(), dim=-1)

    def _check_targets(self, batch_size: int, labels: Tensor | None, masks: Tensor | None) -> None:
        for name, value in (("labels", labels), ("masks", masks)):
            if value is not None and not isinstance(value, Tensor):
                raise ValueError(f"{name} is of type {type(value).__name__}; expected a tensor.")
        if labels is not None and tuple(labels.shape) != (batch_size,):
            raise ValueError(f"labels has shape {tuple(labels.shape)}; expected ({batch_size},), one label per image.")
        if labels is not None:
            _require((labels == 0) | (labels == 1), lambda: f"labels are {labels.tolist()}; expected 0 and 1.")
        if masks is None:
            return
        if labels is None:
            raise ValueError("masks were given without labels; the loss needs both.")
        if masks.ndim != 3 or masks.shape[0] != batch_size or not masks.numel():
            raise ValueError(f"masks has shape {tuple(masks.shape)}; expected ({batch_size}, height, width).")
        _require(
            (masks >= 0) & (masks <= 1),
            lambda: (
                f"masks go from {masks.min().item()} to {masks.max().item()}; expected 0 and 1, as from the processor."
            ),
        )


def _require(conditions: Tensor, message: Callable[[], str]) -> None:
    """Check values: with an error of Python on a CPU, and without waiting for the result on a GPU."""
    if conditions.is_cuda:
        torch._assert_async(conditions.all())
    elif conditions.device.type == "cpu" and not torch.compiler.is_compiling() and not conditions.all():
        raise ValueError(message())


def _fingerprint(*modules: nn.Module) -> tuple[tuple[int, int], ...]:
    """Return what changes whenever a parameter is replaced or written in place."""
    parameters = (parameter for module in modules for parameter in module.parameters())
    return tuple((p.data_ptr(), -1 if p.is_inference() else p._version) for p in parameters)


def _full_precision(tensor: Tensor) -> AbstractContextManager:
    """Switch autocast off for what follows, where it is on."""
    kind = tensor.device.type
    is_on = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.autocast(kind, enabled=False) if is_on else nullcontext()


# ------------------------------------------------------------------------------------------------ smoothed maps


class AnomalyMapHead(nn.Module):
    """Turn the patch probabilities of the selected layers into one smoothed anomaly map, on any device.

    Section 3.3 of the paper: each layer's grid is upsampled bilinearly, the layers are summed, the sum is smoothed
    with a Gaussian. All three steps are linear, so the grids are summed before they are upsampled.

    Args:
        image_size (`tuple[int, int]`): Height and width of the map, in pixels.
        smoothing_sigma (`float`, *optional*, defaults to 4.0): Standard deviation in pixels; 0 for no smoothing.

    Example:
    ```python
    >>> import torch
    >>> from anomalyclip_hf import AnomalyMapHead

    >>> head = AnomalyMapHead((40, 64))
    >>> head([torch.full((1, 5, 8), 0.25), torch.full((1, 5, 8), 0.5)]).mean()
    tensor(0.7500)

    ```
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, image_size: tuple[int, int], smoothing_sigma: float = 4.0):
        super().__init__()
        self.image_size, self.smoothing_sigma = (image_size[0], image_size[1]), float(smoothing_sigma)
        for name, length in zip(("rows", "columns"), self.image_size, strict=True):
            matrix = torch.from_numpy(smoothing_matrix(length, self.smoothing_sigma))
            self.register_buffer(name, matrix, persistent=False)

    def forward(self, patch_probabilities: Sequence[Tensor]) -> Tensor:
        """Compute the anomaly maps of a batch.

        Args:
            patch_probabilities (`Sequence[torch.Tensor]`): Per selected layer, the probability of abnormal of each
                patch, of shape `(batch_size, rows, columns)`, in [0, 1].

        Returns:
            `torch.Tensor` of shape `(batch_size, height, width)`: float32, from 0 to the number of layers.
        """
        summed = torch.stack([grid.float() for grid in patch_probabilities]).sum(0)
        return self.smooth(_resize(summed, self.image_size))

    def smooth(self, maps: Tensor) -> Tensor:
        """Smooth maps that have the size of the image already, such as `AnomalyCLIPOutput.anomaly_maps`."""
        with _full_precision(maps):
            return self.rows.float() @ maps.float() @ self.columns.float().T


def gaussian_smooth(maps: Tensor, sigma: float) -> Tensor:
    """Smooth with the Gaussian of [`smoothing_matrix`].

    Args:
        maps (`torch.Tensor` of shape `(batch_size, height, width)`): Maps to smooth, on any device.
        sigma (`float`): Standard deviation in pixels; 0 returns the maps unchanged.

    Returns:
        `torch.Tensor` of shape `(batch_size, height, width)`
    """
    if sigma == 0:
        return maps
    return AnomalyMapHead((maps.shape[1], maps.shape[2]), sigma).to(maps.device).smooth(maps)


def _resize(maps: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Upsample (batch_size, rows, columns) bilinearly to a height and width."""
    return F.interpolate(maps[:, None], size=tuple(size), mode="bilinear", align_corners=False)[:, 0]


__all__ = ["AnomalyCLIPModel", "AnomalyCLIPOutput", "AnomalyMapHead", "gaussian_smooth"]
