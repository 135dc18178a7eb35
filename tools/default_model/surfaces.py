# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Table of the procedural families: drawing function, plain caption words and split.

Test families differ in kind from those seen in training, so that a test score speaks about unseen surfaces.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import lines
import mirrors
import objects as o
import objects_round as r
import textures as t


@dataclass(frozen=True)
class Family:
    """draw(rng, height, width) gives a uint8 RGB surface; an object also takes a material and gives its foreground."""

    draw: Callable
    words: str
    split: str
    is_object: bool = False


def _table(split: str, is_object: bool, entries: list[tuple[Callable, str]]) -> dict[str, Family]:
    return {draw.__name__: Family(draw, words, split, is_object) for draw, words in entries}


FAMILIES: dict[str, Family] = {
    **_table(
        "train",
        False,
        [
            (t.brushed_metal, "brushed metal"),
            (t.cast_metal, "cast metal"),
            (t.rolled_steel, "steel sheet"),
            (t.concrete, "concrete"),
            (t.plaster, "plaster wall"),
            (t.granite, "granite"),
            (t.wood, "wood"),
            (t.leather, "leather"),
            (t.woven_fabric, "woven fabric"),
            (t.twill, "denim fabric"),
            (t.knit, "knitted fabric"),
            (t.carpet, "carpet"),
            (t.paper, "paper"),
            (t.cardboard, "cardboard"),
            (t.wire_mesh, "wire mesh"),
            (t.tiles, "tile"),
            (t.mosaic, "stone paving"),
            (t.rubber, "rubber"),
            (t.moulded_plastic, "plastic"),
            (t.orange_peel, "painted surface"),
            (t.halftone, "printed paper"),
            (t.stripes, "striped pattern"),
            (t.textile_print, "printed fabric"),
            (t.circuit_traces, "bare circuit board"),
            (lines.routed_lines, "bare circuit board"),
            (lines.line_print, "printed lines"),
            (lines.curved_metal, "polished metal"),
            (mirrors.rods, "metal rods"),
            (mirrors.pressed_sheet, "pressed metal sheet"),
        ],
    ),
    **_table(
        "validation",
        False,
        [
            (t.felt, "felt"),
            (t.machined_rings, "machined metal"),
            (t.perforated_sheet, "perforated sheet"),
            (t.gravel, "gravel"),
            (lines.grille, "grille"),
        ],
    ),
    **_table(
        "test",
        False,
        [
            (t.marble, "marble"),
            (t.foam, "sponge"),
            (t.bricks, "brick wall"),
            (t.corrugated, "corrugated sheet"),
            (t.solar_cell, "solar cell"),
            (t.skin, "skin"),
            (t.speckle, "ultrasound scan"),
        ],
    ),
    **_table(
        "train",
        True,
        [
            (o.washer, "metal washer"),
            (o.nut, "metal nut"),
            (o.screw, "screw"),
            (o.pill, "pill"),
            (o.bottle_top, "bottle top"),
            (o.connector, "connector"),
            (o.bracket, "metal bracket"),
            (o.circuit_board, "circuit board"),
            (r.ball, "ball"),
            (r.tube, "tube"),
            (r.nutshell, "nut"),
            (r.biscuit, "biscuit"),
            (r.candles, "set of parts"),
            (mirrors.threaded_shaft, "threaded shaft"),
            (mirrors.turned_shaft, "metal shaft"),
        ],
    ),
    **_table("validation", True, [(o.seal_ring, "sealing ring"), (o.spring, "spring")]),
    **_table(
        "test",
        True,
        [(o.gear, "gear"), (o.capsule, "capsule"), (o.cable, "cable"), (r.zipper, "zipper")],
    ),
}

# Two tones with clear borders: their defects are mostly those of lines, and real ones are often binarised.
LINE_FAMILIES = frozenset({"routed_lines", "line_print", "circuit_traces", "grille"})

# Polished metal is common in factories and hard to imitate, so it is drawn more often than its share of the table.
MIRROR_FAMILIES = ("rods", "pressed_sheet", "threaded_shaft", "turned_shaft", "curved_metal")

# First match wins: the caption word of a photograph from words in its original path.
PATH_WORDS: list[tuple[str, str]] = [
    ("brick", "brick wall"),
    ("wood|plank|parquet|timber|bark", "wood"),
    ("carpet|fabric|cloth|curtain|rug", "fabric"),
    ("leather", "leather"),
    ("rust", "rusty metal"),
    ("metal|steel|iron|alu|copper|mtl", "metal"),
    ("concrete|cement|conc", "concrete"),
    ("tile|mosaic", "tile"),
    ("gravel|pebble", "gravel"),
    ("stone|rock|granite|marble|cobble|pave", "stone"),
    ("plaster|stucco", "plaster wall"),
    ("asphalt|road|street|tarmac", "asphalt"),
    ("grass|leaf|leaves|moss", "grass"),
    ("sand|dirt|mud|soil|earth", "ground"),
    ("paper|book", "paper"),
]


def names(split: str, is_object: bool) -> list[str]:
    """Family names of one split and kind, in table order."""
    return [name for name, family in FAMILIES.items() if family.split == split and family.is_object == is_object]


def draw_family(
    name: str, rng: np.random.Generator, height: int, width: int, material: Callable | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one family: (image uint8 (H, W, 3), foreground bool (H, W)); a texture is foreground everywhere."""
    family = FAMILIES[name]
    if family.is_object:
        return family.draw(rng, height, width, material)
    return family.draw(rng, height, width), np.ones((height, width), bool)
