# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Captions of synthetic scenes, sentences about states, and the small tokenizer that reads both."""

import json
import string

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from anomalyclip_hf.configuration_anomalyclip import ABNORMAL_STATES, NORMAL_STATES, PHOTO_TEMPLATES


VOCAB_SIZE = 768
LONGEST_TEXT = 32  # tokens, with start and end
START, END = "<|startoftext|>", "<|endoftext|>"
GENERAL_WORDS = ("object", "surface", "thing", "product", "material", "part", "texture", "item")
WITH_DEFECT = ("{} with a {}", "{} with {}", "damaged {} with a {}", "{} that has a {}", "{} and a {} on it")


def caption(surface: str, defect: str | None, rng: np.random.Generator) -> str:
    """Describe a scene, as `"a photo of brushed metal with a scratch."`; one of many ways at random."""
    if defect is None:
        thing = rng.choice(NORMAL_STATES).format(surface)
    elif rng.random() < 0.8:
        thing = rng.choice(WITH_DEFECT).format(surface, defect)
    else:
        thing = rng.choice(ABNORMAL_STATES).format(surface)
    return str(rng.choice(PHOTO_TEMPLATES)).format(thing)


def state_sentences(rng: np.random.Generator, count: int) -> tuple[list[str], list[str]]:
    """Draw `count` pairs of sentences about a normal and a damaged thing that say nothing about what it is."""

    def sentence(states: tuple[str, ...], word: str) -> str:
        return str(rng.choice(PHOTO_TEMPLATES)).format(str(rng.choice(states)).format(word))

    words = [str(word) for word in rng.choice(GENERAL_WORDS, size=count)]
    return [sentence(NORMAL_STATES, word) for word in words], [sentence(ABNORMAL_STATES, word) for word in words]


def train_tokenizer(surfaces: list[str], defects: list[str]) -> CLIPTokenizer:
    """Learn a byte-pair vocabulary on captions of all surfaces and defects; any other text falls back to bytes."""
    rng = np.random.default_rng(0)
    corpus = [caption(surface, defect, rng) for surface in surfaces for defect in (None, None, *defects)]
    corpus += [text for texts in state_sentences(rng, 2000) for text in texts]
    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trained.pre_tokenizer = CLIPTokenizer().backend_tokenizer.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    trained.train_from_iterator(corpus, trainer)
    model = json.loads(trained.to_str())["model"]
    # A character that never ended a word would be read as end of text.
    for character in string.ascii_lowercase + string.digits + string.punctuation:
        model["vocab"].setdefault(f"{character}</w>", len(model["vocab"]))
    merges = [tuple(merge) for merge in model["merges"]]
    return CLIPTokenizer(vocab=model["vocab"], merges=merges, model_max_length=LONGEST_TEXT)
