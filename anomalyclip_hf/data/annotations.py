# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Read the labels of annotation tools, COCO JSON and labelme JSON, and draw them as masks."""

import base64
import io
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

from .files import folder_name, is_image_name
from .layouts import Row, Words
from .words import ANOMALOUS, GOOD, NORMAL, label_of


# NumPy and Pillow are imported only where masks are drawn, since every --help lists the catalogue.
if TYPE_CHECKING:
    import numpy as np
    from PIL import Image, ImageDraw

SPLITS = ("train", "val", "test")
FEWEST_POINTS = {  # of each shape that labelme writes
    "polygon": 3,
    "rectangle": 2,
    "oriented_rectangle": 4,
    "circle": 2,
    "line": 2,
    "linestrip": 2,
    "point": 1,
    "points": 1,
    "mask": 1,
}
LINE_WIDTH, POINT_RADIUS = 10, 5  # pixels, as labelme itself draws lines and points in masks


@dataclass(frozen=True)
class Coco:
    """Read COCO JSON: an image with annotations is anomalous, one without is normal."""

    name: str = "COCO JSON"
    expects: str = "a .json file with images and annotations, in the folder or in annotations/"

    def fits(self, root: Path, normal_words: Words) -> bool:
        return bool(self._files(root))

    def rows(self, root: Path, normal_words: Words) -> Iterator[Row]:
        found, listed = _images_below(root), dict[Path, Path]()
        for file in self._files(root):
            index = _read_json(file)
            split = next((word for word in SPLITS if word in file.stem.casefold()), "test")
            try:
                names = {category["id"]: category["name"] for category in index.get("categories", ())}
                drawn = defaultdict(list)
                for one in index["annotations"]:
                    if label_of(names.get(one.get("category_id"), ""), normal_words) != NORMAL:
                        drawn[one["image_id"]].append(one)
                if unknown := drawn.keys() - {image["id"] for image in index["images"]}:
                    raise ValueError(f"{file} has annotations of images that it does not list: {[*unknown][:3]}.")
                for image in index["images"]:
                    path, marks = _find(found, image["file_name"], root), drawn[image["id"]]
                    if path in listed:
                        raise ValueError(f"{file} and {listed[path]} both list {path}; keep one of them.")
                    listed[path] = file
                    if not marks:
                        yield Row(path, NORMAL, folder_name(root), GOOD, split)
                        continue
                    mask = _draw_coco(marks, (image["width"], image["height"]), file)
                    kind = names.get(marks[0].get("category_id"), "anomaly")
                    yield Row(path, ANOMALOUS, folder_name(root), kind, split, mask)
            except (KeyError, TypeError, AttributeError) as error:
                raise ValueError(f"{file} is not COCO JSON ({type(error).__name__}: {error}).") from error

    def _files(self, root: Path) -> list[Path]:
        files = sorted([*root.glob("*.json"), *root.glob("annotations/*.json")])
        return [file for file in files if {"images", "annotations"} <= _keys(file)]


@dataclass(frozen=True)
class Labelme:
    """Read labelme JSON beside images: an image with shapes is anomalous, one without is normal."""

    name: str = "labelme JSON"
    expects: str = "images, and beside those with anomalies a .json file of labelme"

    def fits(self, root: Path, normal_words: Words) -> bool:
        return any("shapes" in _keys(file) for file in sorted(root.rglob("*.json")))

    def rows(self, root: Path, normal_words: Words) -> Iterator[Row]:
        found, beside = _images_below(root), defaultdict(list)
        for path in found[""]:
            beside[path.with_suffix("")].append(path)
        shapes_of: dict[Path, tuple[Path, dict[str, Any]]] = {}
        for file in sorted(root.rglob("*.json")):
            index = _read_json(file)
            if isinstance(index, dict) and "shapes" in index:
                named, own = str(index.get("imagePath", "")), beside[file.with_suffix("")]
                own = [path for path in own if path.name == PureWindowsPath(named).name] or own
                image = own[0] if own else _find(found, named, root)
                if image in shapes_of:
                    raise ValueError(f"{file} and {shapes_of[image][0]} are both of {image}; keep one of them.")
                shapes_of[image] = (file, index)
        for image in dict.fromkeys([*found[""], *shapes_of]):
            file, index = shapes_of.get(image, (image, {}))
            shapes = [
                one for one in index.get("shapes", ()) if label_of(str(one.get("label")), normal_words) != NORMAL
            ]
            if not shapes:
                yield Row(image, NORMAL, folder_name(root), GOOD)
                continue
            try:
                mask = _draw_labelme(shapes, (index["imageWidth"], index["imageHeight"]))
            except (KeyError, TypeError, ValueError, OSError) as error:
                raise ValueError(f"{file} is not labelme JSON ({type(error).__name__}: {error}).") from error
            yield Row(image, ANOMALOUS, folder_name(root), str(shapes[0]["label"]), mask=mask)


def _draw_coco(marks: list[dict[str, Any]], size: tuple[int, int], file: Path) -> bytes | None:
    """Draw polygons and bitmaps; `None` if an annotation has only a box, which is no ground truth for pixels."""
    from PIL import Image

    mask = Image.new("1", size)
    for mark in marks:
        segmentation = mark.get("segmentation")
        if not segmentation or not any(segmentation):
            return None
        try:
            if isinstance(segmentation, dict):
                bitmaps = [Image.fromarray(_decode_runs(segmentation))]
            else:
                bitmaps = [_fill_polygon(corners, size) for corners in segmentation]
            for bitmap in bitmaps:
                if bitmap.size != size:
                    raise ValueError(f"its bitmap has {bitmap.size} pixels, the image {size}")
                mask.paste(1, mask=bitmap)
        except ValueError as error:
            raise ValueError(f"{file}: annotation {mark.get('id')} cannot be drawn ({error}).") from error
    return _as_png(mask)


def _fill_polygon(values: list[float], size: tuple[int, int]) -> "Image.Image":
    """Fill a polygon as COCO's own tools do; one too thin to hold the centre of a pixel gives its outline."""
    import numpy as np
    from PIL import Image, ImageDraw

    corners = np.array(values, float).reshape(-1, 2)
    if not (abs(corners) <= 10 * max(size)).all():  # also NaN; pycocotools needs memory for the whole edge
        raise ValueError("a polygon has corners far outside of the image")
    if len(corners) > 2:
        tools, (width, height) = _coco_tools(), size
        filled = tools.decode(tools.frPyObjects([corners.ravel().tolist()], height, width))[..., 0]
        if filled.any():
            return Image.fromarray(filled.astype(bool))
    outline = Image.new("1", size)
    ImageDraw.Draw(outline).line([tuple(corner) for corner in np.floor([*corners, corners[0]])], fill=1)
    return outline


def _coco_tools() -> Any:
    try:
        from pycocotools import mask
    except ImportError as error:
        raise ValueError("polygons and compressed bitmaps need `pip install anomalyclip-hf[coco]`") from error
    return mask


def _decode_runs(segmentation: dict[str, Any]) -> "np.ndarray":
    """Decode run lengths, which are in column order."""
    import numpy as np

    (height, width), counts = segmentation["size"], segmentation["counts"]
    if isinstance(counts, list):
        values = np.arange(len(counts)) % 2
        return np.repeat(values, counts).reshape(width, height).T.astype(bool)
    return _coco_tools().decode({"size": [height, width], "counts": counts.encode()}).astype(bool)


def _draw_labelme(shapes: list[dict[str, Any]], size: tuple[int, int]) -> bytes:
    """Draw shapes as `labelme.utils.shape_to_mask` does."""
    import numpy as np
    from PIL import Image, ImageDraw

    mask = Image.new("1", size)
    draw = ImageDraw.Draw(mask)
    for shape in shapes:
        points = [(float(x), float(y)) for x, y in shape["points"]]
        kind = shape.get("shape_type") or "polygon"
        if kind not in FEWEST_POINTS:
            raise ValueError(f"a shape is a {kind!r}; expected {', '.join(FEWEST_POINTS)}")
        if len(points) < FEWEST_POINTS[kind]:
            raise ValueError(f"a {kind} has {len(points)} points; expected {FEWEST_POINTS[kind]}")
        if kind == "mask":
            bitmap = np.asarray(Image.open(io.BytesIO(base64.b64decode(shape["mask"])))) != 0  # labelme writes 0 and 1
            mask.paste(1, (int(points[0][0]), int(points[0][1])), Image.fromarray(bitmap))
        elif kind == "rectangle":
            draw.rectangle((*np.min(points, axis=0), *np.max(points, axis=0)), fill=1)
        elif kind in ("line", "linestrip"):
            draw.line(points, fill=1, width=LINE_WIDTH)
        elif kind == "circle":
            _draw_disc(draw, points[0], float(np.hypot(*np.subtract(points[1], points[0]))))
        elif kind in ("point", "points"):
            for point in points:
                _draw_disc(draw, point, POINT_RADIUS)
        else:
            draw.polygon(points, fill=1)
    return _as_png(mask)


def _draw_disc(draw: "ImageDraw.ImageDraw", centre: tuple[float, float], radius: float) -> None:
    x, y = centre
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=1)


def _as_png(mask: "Image.Image") -> bytes:
    buffer = io.BytesIO()
    mask.save(buffer, "PNG")
    return buffer.getvalue()


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} cannot be read as json ({error}).") from error


def _keys(file: Path) -> set[str]:
    index = _read_json(file)
    return set(index) if isinstance(index, dict) else set()


def _images_below(root: Path) -> dict[str, list[Path]]:
    """List all images below a folder, by file name, and all of them under the empty name."""
    found: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(root.rglob("*")):
        if is_image_name(path.name):
            found[path.name].append(path)
            found[""].append(path)
    return found


def _find(found: dict[str, list[Path]], name: str, root: Path) -> Path:
    """Find the file that an index names, often with the folders of another machine."""
    path = PurePosixPath(name.replace("\\", "/"))
    same = [one for one in found.get(path.name, ()) if path.name]
    exact = [one for one in same if one.as_posix().endswith(path.as_posix())]
    if len(exact) == 1 or len(same) == 1:
        return (exact or same)[0]
    if same:
        raise ValueError(f"{root} has {len(same)} files called {path.name}; name the folder of each in the JSON.")
    return root / path.name
