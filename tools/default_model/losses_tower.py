# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Losses of the small CLIP, all against text.

Images are compared with captions (contrastive) and with sentences about states. Each defective image must score above
its normal twin. Every patch of the local path (DPAM), in each selected layer, is compared with the same sentences, so
that patches describe their own place. The image score uses the class token alone, so two more losses support it: the
patches of the ordinary path are compared with the sentences where they enter the last layer, and the class token must
attend to damaged patches there.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPModel, CLIPTokenizer
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from anomalyclip_hf.modeling_anomalyclip import encode_image, encode_text


TEMPERATURE = 0.07
DPAM_LAYERS = 6  # of 6: with so few layers, none can be spared
SELECTED_LAYERS = (3, 4, 5, 6)  # early layers see texture and edges, late ones context
DAMAGED_WEIGHT = 5.0  # of a damaged patch, since few patches are damaged
MARGIN = 1.0  # between the logits of twins
NORMAL_LOGIT, NORMAL_WEIGHT = -1.0, 3.0  # the value of every normal image, and its weight
WEIGHTS = {"caption": 0.25, "image": 2.0, "twins": 2.0, "patch": 3.0, "plain_patch": 1.0, "attention": 0.3}


def to_pixel_values(images: Tensor) -> Tensor:
    """(batch, height, width, 3) in [0, 255] to CLIP's normalised (batch, 3, height, width)."""
    mean, std = torch.tensor(OPENAI_CLIP_MEAN), torch.tensor(OPENAI_CLIP_STD)
    return ((images.float() / 255 - mean) / std).permute(0, 3, 1, 2).contiguous()


def embed_texts(clip: CLIPModel, tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """(texts, projection_dim), L2-normalised."""
    token_ids = [torch.tensor(ids) for ids in tokenizer(texts, truncation=True)["input_ids"]]
    ends = torch.tensor([len(ids) - 1 for ids in token_ids])
    padded = nn.utils.rnn.pad_sequence(token_ids, batch_first=True)
    return encode_text(clip, clip.text_model.embeddings.token_embedding(padded), ends)


def encode(clip: CLIPModel, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return image embeddings, patch embeddings of the local path stacked by selected layer, and the input of the last
    layer's attention before and after its LayerNorm.
    """
    last, entered = clip.vision_model.encoder.layers[-1], []
    hook = last.layer_norm1.register_forward_hook(lambda _, inputs, normed: entered.append((inputs[0], normed)))
    try:
        image_embeds, patch_embeds, _ = encode_image(
            clip, to_pixel_values(images), dpam_layers=DPAM_LAYERS, feature_layers=SELECTED_LAYERS
        )
    finally:
        hook.remove()
    patch_embeds = torch.stack(patch_embeds).float()
    return F.normalize(image_embeds.float(), dim=-1), F.normalize(patch_embeds, dim=-1), *entered[0]


def caption_loss(image_embeds: Tensor, caption_embeds: Tensor, target: Tensor) -> Tensor:
    """Compute the contrastive loss in both directions; several images may share a caption."""
    similarity = image_embeds @ caption_embeds.T / TEMPERATURE
    of_caption = F.one_hot(target, len(caption_embeds)).T.float()
    by_text = -(of_caption * similarity.T.log_softmax(-1)).sum(-1) / of_caption.sum(-1)
    return (F.cross_entropy(similarity, target) + by_text.mean()) / 2


def compute_losses(clip: CLIPModel, tokenizer: CLIPTokenizer, batch: dict) -> dict[str, Tensor]:
    """Compute the losses of one batch of pairs, normal and defective in turn; each a scalar."""
    image_embeds, patch_embeds, hidden_states, normed = encode(clip, batch["images"])

    # One caption per distinct content, so that no pair in the batch is a false negative.
    first = {content: index for index, content in reversed(list(enumerate(batch["contents"])))}
    contents = list(first)
    texts = [batch["captions"][first[content]] for content in contents]
    text_embeds = embed_texts(clip, tokenizer, texts + batch["states"])
    caption_embeds, state_embeds = text_embeds[: len(texts)], text_embeds[len(texts) :].unflatten(0, (2, -1))
    target = torch.tensor([contents.index(content) for content in batch["contents"]])

    labels = batch["masks"].flatten(1).any(1)
    directions = (state_embeds[1] - state_embeds[0]) / TEMPERATURE  # (sentences, projection_dim)
    image_states = image_embeds @ directions.T
    direction, scores = directions.mean(0), image_states.mean(1)
    touched = touched_patches(batch["masks"], clip.config.vision_config.patch_size)
    plain = clip.visual_projection(clip.vision_model.post_layernorm(hidden_states[:, 1:]))
    return {
        "caption": caption_loss(image_embeds, caption_embeds, target),
        "image": state_loss(image_states, labels),
        "twins": F.softplus(MARGIN - (scores[1::2] - scores[::2])).mean(),
        "patch": sum(patch_loss(layer @ direction, touched) for layer in patch_embeds) / len(patch_embeds),
        "plain_patch": patch_loss(F.normalize(plain.float(), dim=-1) @ direction, touched),
        "attention": attention_loss(clip.vision_model.encoder.layers[-1].self_attn, normed, touched),
    }


def state_loss(logits: Tensor, is_damaged: Tensor) -> Tensor:
    """Push damaged images up and keep normal ones at one value.

    Cross-entropy would give plain surfaces lower scores than complex objects, and so rank images by what they show
    instead of by their defects. logits: (batch, sentences).
    """
    normal, damaged = logits[~is_damaged], logits[is_damaged]
    held = F.smooth_l1_loss(normal, torch.full_like(normal, NORMAL_LOGIT))
    return (NORMAL_WEIGHT * held + F.softplus(-damaged).mean()) / 2


def touched_patches(masks: Tensor, patch_size: int) -> Tensor:
    """Return (batch, patches) in 0..1; a patch counts fully as damaged from a quarter of its area on."""
    return (F.avg_pool2d(masks[:, None].float(), patch_size).flatten(1) * 4).clamp(max=1)


def patch_loss(logits: Tensor, touched: Tensor) -> Tensor:
    """Compute weighted cross-entropy and Dice per patch."""
    weight = 1 + (DAMAGED_WEIGHT - 1) * touched
    cross_entropy = F.binary_cross_entropy_with_logits(logits, touched, weight)
    probability = logits.sigmoid()
    dice = (2 * (probability * touched).sum(1) + 1) / (probability.sum(1) + touched.sum(1) + 1)
    return 2 * cross_entropy + (1 - dice.mean())


def attention_loss(attention: nn.Module, normed: Tensor, touched: Tensor) -> Tensor:
    """Compute -log of the share of the class token's attention, averaged over heads, on damaged patches."""
    query, key = (
        projected.unflatten(-1, (attention.num_heads, attention.head_dim)).transpose(1, 2).float()
        for projected in (attention.q_proj(normed[:, :1]), attention.k_proj(normed))
    )
    shares = (query @ key.transpose(-1, -2) * attention.scale).softmax(-1).mean(1)[:, 0, 1:]  # (batch, patches)
    damaged = touched.amax(1) > 0
    share = (shares * (touched > 0)).sum(1)[damaged]
    return -share.clamp(min=1e-4).log().mean() if damaged.any() else share.sum()
