# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import http.server
import io
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from image_files import RED, combinations, levels, png, tiff
from PIL import Image

from anomalyclip_hf.image_processing_anomalyclip import load_image, load_mask, masks_to_tensor


GRADIENT = np.linspace(0, 255, 48).astype(np.uint8).reshape(6, 8)
BOX = np.zeros((60, 80), bool)
BOX[10:20, 30:50] = True
COLOUR = np.stack([GRADIENT, GRADIENT[::-1], GRADIENT[:, ::-1]], axis=2)


def saved(image: Image.Image, path, **options) -> str:
    image.save(path, **options)
    return str(path)


def assert_pixels(image: Image.Image, expected: np.ndarray, tolerance: int = 0):
    assert image.mode == "RGB"
    expected = np.stack([expected] * 3, 2) if expected.ndim == 2 else expected
    assert np.abs(np.asarray(image).astype(int) - expected.astype(int)).max() <= tolerance


def test_greyscale(tmp_path):
    assert_pixels(load_image(saved(Image.fromarray(GRADIENT), tmp_path / "grey.png")), GRADIENT)


@pytest.mark.parametrize("ending", ["png", "tiff"])
def test_16_bit_is_scaled_not_clipped(tmp_path, ending):
    deep = Image.fromarray(GRADIENT.astype(np.uint16) * 257)
    assert_pixels(load_image(saved(deep, tmp_path / f"deep.{ending}")), GRADIENT)


def test_16_bits_in_planes(tmp_path):
    path = tmp_path / "planes.tiff"
    tifffile.imwrite(
        path, np.moveaxis(COLOUR.astype(np.uint16) * 257, 2, 0), photometric="rgb", planarconfig="separate"
    )
    assert_pixels(load_image(path), COLOUR)
    assert_pixels(load_image(path.read_bytes()), COLOUR)
    clear = np.concatenate([COLOUR, np.full((*COLOUR.shape[:2], 1), 255, np.uint8)], axis=2).astype(np.uint16) * 257
    tifffile.imwrite(path, np.moveaxis(clear, 2, 0), photometric="rgb", planarconfig="separate", extrasamples=[2])
    assert_pixels(load_image(path), COLOUR)
    with pytest.raises(ValueError, match=r"planes\.tiff"):
        load_image(Image.open(path))


@pytest.mark.parametrize("pixels", [COLOUR.astype(np.uint16) * 257, COLOUR.astype(np.float32)])
def test_tiffs_that_pillow_does_not_read_are_turned_too(tmp_path, pixels):
    path = tmp_path / "turned.tiff"
    tag = (0x0112, "H", 1, 6, True)  # to be turned by a quarter clockwise
    tifffile.imwrite(path, np.moveaxis(pixels, 2, 0), photometric="rgb", planarconfig="separate", extratags=[tag])
    assert_pixels(load_image(path), np.rot90(COLOUR, -1))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_white_may_be_zero(tmp_path, dtype):
    most = np.iinfo(dtype).max
    grey = GRADIENT.astype(dtype) * dtype(most // 255)
    tifffile.imwrite(tmp_path / "white.tiff", most - grey, photometric="miniswhite")
    for source in (tmp_path / "white.tiff", Image.open(tmp_path / "white.tiff")):
        assert_pixels(load_image(source), GRADIENT)


def test_floats_a_little_above_1_are_no_black_image():
    assert_pixels(load_image(GRADIENT / 255 * 1.02), np.minimum(GRADIENT * 1.02, 255).round(), 1)


@pytest.mark.parametrize("scale", [1.0, 1 / 255])
def test_float_tiff(tmp_path, scale):
    path = saved(Image.fromarray((GRADIENT * scale).astype(np.float32)), tmp_path / "float.tiff")
    assert_pixels(load_image(path), GRADIENT)


def test_cmyk(tmp_path):
    path = saved(Image.fromarray(COLOUR).convert("CMYK"), tmp_path / "cmyk.tiff")
    assert_pixels(load_image(path), COLOUR, tolerance=2)


def test_palette(tmp_path):
    image = Image.fromarray(np.repeat(COLOUR[:1, :2], 4, axis=1)).quantize(4)
    assert image.mode == "P"
    assert_pixels(load_image(saved(image, tmp_path / "palette.png")), np.asarray(image.convert("RGB")))


def test_black_and_white(tmp_path):
    image = Image.fromarray(GRADIENT > 100)
    assert_pixels(load_image(saved(image, tmp_path / "bits.png")), (GRADIENT > 100) * np.uint8(255))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_are_laid_over_white(tmp_path, mode):
    image = Image.fromarray(COLOUR).convert(mode)
    expected = np.array(Image.fromarray(COLOUR).convert("L" if mode == "LA" else "RGB"))
    assert_pixels(load_image(saved(image, tmp_path / "opaque.png")), expected)
    image.putalpha(Image.fromarray((GRADIENT > 100) * np.uint8(255)))
    expected[GRADIENT <= 100] = 255
    assert_pixels(load_image(saved(image, tmp_path / "clear.png")), expected)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_an_alpha_of_0_everywhere_is_not_meant(tmp_path, mode):
    image = Image.fromarray(GRADIENT).convert(mode)
    image.putalpha(0)
    assert_pixels(load_image(saved(image, tmp_path / "clear.png")), GRADIENT)


def test_transparent_palette(tmp_path):
    image = Image.fromarray((GRADIENT > 100).astype(np.uint8), "P")
    image.putpalette([0, 0, 0, 9, 9, 9])
    assert_pixels(load_image(saved(image, tmp_path / "p.png", transparency=0)), np.where(GRADIENT > 100, 9, 255))


def test_animation_gives_its_first_frame(tmp_path):
    frames = [Image.fromarray(np.full((5, 5), level, np.uint8)) for level in (10, 200)]
    path = saved(frames[0], tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    assert_pixels(load_image(path), np.full((5, 5), 10))


def test_thumbnails_of_a_tiff_are_no_images(tmp_path):
    path = tmp_path / "pyramid.tiff"
    small, nothing_else = COLOUR[::2, ::2], tmp_path / "small.tiff"
    with tifffile.TiffWriter(path) as file:
        file.write(small, photometric="rgb", subfiletype=1)
        file.write(COLOUR, photometric="rgb")
    assert_pixels(load_image(path), COLOUR)
    tifffile.imwrite(nothing_else, small, photometric="rgb", subfiletype=1)
    assert_pixels(load_image(nothing_else), small)


@pytest.mark.parametrize("scale", [1, 257, np.float32(1 / 255)])
def test_thumbnails_and_masks_of_a_tiff_are_no_images_whoever_reads_it(tmp_path, scale):
    """Pages of 16 bits in planes, and of floats, are read by tifffile."""
    pixels = COLOUR * scale if isinstance(scale, np.float32) else (COLOUR.astype(np.uint16) * scale)
    with tifffile.TiffWriter(tmp_path / "pages.tiff") as file:
        file.write(COLOUR[::2, ::2], photometric="rgb", subfiletype=1)
        file.write(np.ones(COLOUR.shape[:2], bool), photometric="minisblack", subfiletype=4)
        if scale == 257:
            file.write(np.moveaxis(pixels, 2, 0), photometric="rgb", planarconfig="separate")
        else:
            file.write(pixels.astype(np.uint8) if scale == 1 else pixels, photometric="rgb")
    assert_pixels(load_image(tmp_path / "pages.tiff"), COLOUR, tolerance=1)


def test_exif_rotation_is_applied(tmp_path):
    image = Image.fromarray(COLOUR)
    exif = image.getexif()
    exif[0x0112] = 6  # stored lying, to be turned by 90 degrees clockwise
    assert_pixels(load_image(saved(image, tmp_path / "turned.png", exif=exif)), np.rot90(COLOUR, -1))


def test_one_pixel(tmp_path):
    assert load_image(saved(Image.new("RGB", (1, 1)), tmp_path / "one.png")).size == (1, 1)


def test_other_sources(tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(COLOUR).save(path)
    for source in (
        path,
        path.read_bytes(),
        Image.fromarray(COLOUR),
        COLOUR,
        torch.tensor(COLOUR),
        COLOUR / 255.0,
        {"bytes": path.read_bytes(), "path": None},
        {"bytes": None, "path": str(path)},
    ):
        assert_pixels(load_image(source), COLOUR)
    assert_pixels(load_image(bytearray(path.read_bytes())), COLOUR)
    assert_pixels(load_image(memoryview(path.read_bytes())), COLOUR)
    assert_pixels(load_image(GRADIENT[:, :, None]), GRADIENT)
    assert_pixels(load_image(GRADIENT[None]), GRADIENT)
    assert_pixels(load_image(torch.tensor(COLOUR).permute(2, 0, 1)), COLOUR)
    faint = np.concatenate([COLOUR, np.full((*COLOUR.shape[:2], 1), 51, np.uint8)], axis=2)  # a fifth over white
    assert_pixels(load_image(faint), np.round(COLOUR * 0.2 + 255 * 0.8), 1)
    assert_pixels(load_image(faint.transpose(2, 0, 1) / 255.0), np.round(COLOUR * 0.2 + 255 * 0.8), 1)
    assert_pixels(load_image(GRADIENT.astype(np.uint16) * 257), GRADIENT)
    assert_pixels(load_image(COLOUR.astype(np.uint16) * 257), COLOUR)
    assert_pixels(load_image(COLOUR.astype(np.int64)), COLOUR)
    assert_pixels(load_image(GRADIENT > 100), (GRADIENT > 100) * np.uint8(255))
    assert_pixels(load_image(torch.tensor(GRADIENT / 255.0, dtype=torch.bfloat16, requires_grad=True)), GRADIENT, 1)


@pytest.fixture
def web(tmp_path):
    """A server on the loopback address that serves `tmp_path`."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=tmp_path)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_url(tmp_path, web, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    from huggingface_hub import close_session

    close_session()  # a session made offline refuses every request
    Image.fromarray(COLOUR).save(tmp_path / "image.png")
    assert_pixels(load_image(f"{web}/image.png"), COLOUR)
    with pytest.raises(ValueError, match=r"/missing\.png .*404"):
        load_image(f"{web}/missing.png")
    monkeypatch.setattr("anomalyclip_hf.image_processing_anomalyclip.MAX_DOWNLOAD_BYTES", 10)
    with pytest.raises(ValueError, match="more than 10 bytes"):
        load_image(f"{web}/image.png")
    close_session()


# ------------------------------------------------------------------------------------------------- bad input


def png_bytes(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("ending", ["png", "jpg", "tiff", "bmp"])
@pytest.mark.parametrize("keep", [0.3, 0.7])
def test_truncated_files(tmp_path, ending, keep):
    path = tmp_path / f"cut.{ending}"
    noise = np.random.default_rng(0).integers(0, 255, (60, 60, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(ValueError, match=rf"cut\.{ending} is (damaged|not an image)") as caught:
        load_image(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", r"bad\.png is empty \(0 bytes\)"), (b"hello world, no image here", "is not an image")],
)
def test_files_that_are_no_images(tmp_path, content, words):
    path = tmp_path / "bad.png"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=words):
        load_image(path)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.png does not exist"):
        load_image(tmp_path / "gone.png")
    with pytest.raises(ValueError, match="is a folder"):
        load_image(tmp_path)


@pytest.mark.parametrize(
    ("page", "ending", "options"),
    [
        (Image.new("RGB", (16_000, 600), "white"), "webp", {"lossless": True}),
        (Image.new("1", (60_000, 400), "white"), "tiff", {"compression": "group4", "tiffinfo": {278: 400}}),
    ],
)
def test_large_and_empty_pages_are_no_damaged_files(tmp_path, page, ending, options):
    path = saved(page, tmp_path / f"page.{ending}", **options)
    assert Path(path).stat().st_size < page.width * page.height / 16_384
    assert load_image(path).size == page.size
    content = Path(path).read_bytes()
    with pytest.raises(ValueError, match="damaged or cut short|not an image"):
        load_image(content[: len(content) // 2])


def test_too_many_pixels_are_refused_before_memory_is_taken(tmp_path):
    path = tmp_path / "huge.png"
    Image.new("1", (20000, 20000)).save(path)  # 400 megapixels in a few kilobytes
    with pytest.raises(ValueError, match=r"huge\.png is too large.*cut it into tiles"):
        load_image(path)


def test_nan_and_wild_floats():
    with pytest.raises(ValueError, match="NaN"):
        load_image(np.full((4, 4), np.nan))
    with pytest.raises(ValueError, match="type complex128"):
        load_image(np.zeros((4, 4), complex))
    with pytest.raises(ValueError, match="type int64"):
        load_image(np.full((4, 4), 70000))
    with pytest.raises(ValueError, match="value_range"):
        load_image(np.array([[0.0, -1.0]]))


def test_32_bit_integers_in_memory_are_those_of_an_array():
    assert_pixels(load_image(Image.fromarray(GRADIENT.astype(np.int32))), GRADIENT)
    for wild in (GRADIENT.astype(np.int32) * 257, GRADIENT.astype(np.int32) - 1):
        with pytest.raises(ValueError, match="int32"):
            load_image(Image.fromarray(wild))


@pytest.mark.parametrize("grey", [200, 300, 51400])
def test_16_bits_are_16_bits_however_dark(tmp_path, grey):
    pixels = np.full((4, 4), grey, np.uint16)
    (tmp_path / "grey.pgm").write_bytes(b"P5\n4 4\n65535\n" + pixels.astype(">u2").tobytes())
    Image.fromarray(pixels).save(tmp_path / "grey.png")
    Image.fromarray(pixels).save(tmp_path / "grey.tif")
    for name in ("grey.pgm", "grey.png", "grey.tif"):
        assert_pixels(load_image(tmp_path / name), np.full((4, 4), round(grey / 257)))
        assert_pixels(load_image(Image.open(tmp_path / name)), np.full((4, 4), round(grey / 257)))


def test_premultiplied_grey():
    premultiplied = Image.new("LA", (4, 4), (100, 255)).convert("La")
    assert_pixels(load_image(premultiplied), np.full((4, 4), 100))
    assert load_mask(premultiplied).all()


def test_damaged_pil_images_are_named(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 60, 3), dtype=np.uint8)).save(tmp_path / "cut.png")
    content = (tmp_path / "cut.png").read_bytes()
    for kept in (content[:4000], content[:2000] + b"\0" * 40 + content[2040:]):
        (tmp_path / "cut.png").write_bytes(kept)
        for read in (load_image, load_mask):
            for source in (Image.open(tmp_path / "cut.png"), kept):
                with pytest.raises(ValueError, match="is damaged or cut short") as caught:
                    read(source)
                assert str(caught.value).count("cut short") == 1


@pytest.mark.parametrize("shape", [(4,), (5, 4, 2), (2, 4, 4, 3), (0, 4), (2, 5, 5), (3, 0, 5)])
def test_arrays_that_are_no_images(shape):
    with pytest.raises(ValueError, match="shape"):
        load_image(np.zeros(shape, np.uint8))


def test_formats_that_start_other_programs_are_not_opened():
    with pytest.raises(ValueError, match="not an image"):
        load_image(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")


def test_unreachable_address():
    from huggingface_hub import close_session

    close_session()
    with pytest.raises(ValueError, match=r"127\.0\.0\.1:9/x\.png"):
        load_image("http://127.0.0.1:9/x.png")


def test_lazily_opened_images_are_named_when_damaged(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (60, 60, 3), dtype=np.uint8)
    path = tmp_path / "lazy.png"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"lazy\.png is damaged"):
        load_image(Image.open(path))


def test_rows_without_content():
    with pytest.raises(ValueError, match="expected 'bytes' or 'path'"):
        load_image({"image": 3})


def test_objects_that_are_no_images():
    with pytest.raises(ValueError, match="made of int"):
        load_image(3)


# ------------------------------------------------------------------------------------------------- masks


def test_masks_count_whatever_is_not_zero(tmp_path):
    pixels = np.zeros((6, 8), np.uint8)
    pixels[2:4, 2:6] = 1  # class numbers count as 255 does
    expected = torch.tensor(pixels).float()
    palette = Image.fromarray(pixels, mode="P")  # without colours, so that the numbers count
    path = tmp_path / "mask.png"
    palette.save(path)
    deep = tmp_path / "deep.png"
    Image.fromarray(pixels.astype(np.uint16)).save(deep)
    colour = Image.fromarray(np.stack([pixels * 200, pixels * 0, pixels * 0], 2))
    row = {"bytes": None, "path": str(path)}
    soft = Image.fromarray(pixels.astype(np.float32) / 2)
    for mask in (
        row,
        soft,
        pixels,
        torch.tensor(pixels),
        Image.fromarray(pixels),
        palette,
        path,
        deep,
        colour,
        pixels > 0,
    ):
        assert torch.equal(masks_to_tensor([mask], (6, 8))[0], expected)


def test_masks_are_resized_with_antialias_and_binary():
    mask = np.zeros((100, 100), np.uint8)
    mask[:, :30] = 255
    small = masks_to_tensor([mask, None], (10, 10))
    assert small.shape == (2, 10, 10)
    assert torch.equal(small[0, :, :3], torch.ones(10, 3))
    assert small[0, :, 3:].sum() == small[1].sum() == 0
    thin = np.zeros((100, 100), np.uint8)
    thin[:, 50] = 255  # a tenth of a pixel at the new size is no pixel
    assert masks_to_tensor([thin], (10, 10)).sum() == 0


def test_masks_with_nan_are_refused():
    with pytest.raises(ValueError, match="NaN"):
        masks_to_tensor([np.full((4, 4), np.nan)], (4, 4))
    with pytest.raises(ValueError, match="the mask holds NaN"):
        masks_to_tensor([Image.fromarray(np.full((4, 4), np.nan, np.float32))], (4, 4))


def test_masks_may_have_one_channel():
    mask = np.arange(12).reshape(3, 4) % 3
    for same in (mask[None], mask[..., None], torch.tensor(mask)[None]):
        assert torch.equal(masks_to_tensor([same], (3, 4))[0], torch.tensor(mask > 0).float())


def test_an_axis_of_one_in_the_middle_is_not_a_channel():
    with pytest.raises(ValueError, match=r"here\.npy has shape \(3, 1, 4\)"):
        load_mask(np.zeros((3, 1, 4)), name="here.npy")


def test_masks_are_turned_as_their_images_are(tmp_path):
    mask = np.zeros((6, 8), np.uint8)
    mask[0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter clockwise
    Image.fromarray(mask).save(tmp_path / "turned.png", exif=exif)
    for source in (tmp_path / "turned.png", Image.open(tmp_path / "turned.png")):
        assert np.array_equal(load_mask(source), np.rot90(mask, -1) > 0)


def test_masks_with_channels_are_refused():
    with pytest.raises(ValueError, match=r"shape \(4, 4, 3\)"):
        masks_to_tensor([np.zeros((4, 4, 3))], (4, 4))


@pytest.mark.parametrize("ending", ["png", "gif"])
def test_masks_go_by_colour_and_not_by_palette_index(tmp_path, ending):
    image = Image.fromarray(BOX).convert("RGB").quantize(2)
    image = image.remap_palette([1, 0]) if np.asarray(image)[0, 0] == 0 else image  # white first
    assert np.array_equal(load_mask(saved(image, tmp_path / f"mask.{ending}")), BOX)


def test_transparent_pixels_are_unmarked(tmp_path):
    red = np.full((*BOX.shape, 4), (255, 255, 255, 0), np.uint8)
    assert not load_mask(saved(Image.fromarray(red), tmp_path / "nothing.png")).any()
    red[BOX] = (255, 0, 0, 255)
    ink = np.zeros((*BOX.shape, 4), np.uint8)
    ink[BOX] = (0, 0, 0, 255)
    grey = np.dstack([BOX * np.uint8(255), 255 - 0 * BOX.astype(np.uint8)])
    faint = np.where(BOX[..., None], (0, 200, 0, 100), 0).astype(np.uint8)  # an overlay that lets the image through
    for number, pixels in enumerate((red, ink, grey, faint)):
        assert np.array_equal(load_mask(saved(Image.fromarray(pixels), tmp_path / f"{number}.png")), BOX), number


@pytest.mark.parametrize(
    ("ending", "options"), [("jpg", {"quality": 60}), ("webp", {"quality": 60}), ("tiff", {"compression": "jpeg"})]
)
def test_lossy_masks_are_marked_above_half(tmp_path, ending, options):
    path = saved(Image.fromarray(BOX * np.uint8(255)), tmp_path / f"mask.{ending}", **options)
    assert abs(int(load_mask(path).sum()) - BOX.sum()) <= 12
    assert load_mask(path, "nonzero").sum() > 1.5 * BOX.sum()
    assert not load_mask(saved(Image.fromarray(BOX * np.uint8(60)), tmp_path / f"dark.{ending}", **options)).any()


def test_a_lossy_mask_is_the_same_from_its_path_and_opened_with_pillow(tmp_path):
    path = saved(Image.fromarray(BOX).convert("L"), tmp_path / "mask.tiff", compression="jpeg", quality=20)
    np.testing.assert_array_equal(load_mask(Image.open(path), "classes"), load_mask(path, "classes"))


def test_grey_masks_and_class_numbers(tmp_path):
    soft = np.where(BOX, 255, 0).astype(np.uint8)
    soft[9] = 90
    path = saved(Image.fromarray(soft), tmp_path / "soft.png")
    assert np.array_equal(load_mask(path), BOX)
    assert np.array_equal(load_mask(path, "nonzero"), soft > 0)
    for top in (1, 2, 127):
        numbers = (BOX * top).astype(np.uint8)
        assert np.array_equal(load_mask(saved(Image.fromarray(numbers), tmp_path / "numbers.png")), BOX)
    instances = np.where(BOX, 3, 0).astype(np.int32)
    instances[0, 0] = 300
    assert load_mask(saved(Image.fromarray(instances), tmp_path / "instances.tiff")).sum() == BOX.sum() + 1
    lossless = saved(Image.fromarray(BOX.astype(np.uint8)), tmp_path / "numbers.webp", lossless=True)
    assert np.array_equal(load_mask(lossless), BOX)
    classes = np.zeros((*BOX.shape, 3), np.uint8)
    classes[BOX], classes[0, 0] = (64, 0, 0), (192, 128, 0)
    assert load_mask(saved(Image.fromarray(classes), tmp_path / "colours.png")).sum() == BOX.sum() + 1
    with pytest.raises(ValueError, match="mask_rule"):
        load_mask(path, "half")


def test_colour_masks_of_16_bits_keep_their_low_byte(tmp_path):
    numbers = BOX[..., None] * np.array([0, 3, 0], np.uint16)
    (tmp_path / "deep.png").write_bytes(png(numbers, 16, 2))
    tifffile.imwrite(tmp_path / "deep.tif", numbers, photometric="rgb")
    for name in ("deep.png", "deep.tif"):
        assert np.array_equal(load_mask(tmp_path / name), BOX)


# ------------------------------------------------------------------------------------------------- every form


def outcome(combination) -> str:
    try:
        pixels = np.asarray(load_image(combination.source, "the file", **combination.options)).astype(float)
    except ValueError as error:
        return "refused" if str(error).startswith("the file ") else "unnamed"
    expected = combination.picture
    if expected is None or pixels.shape != expected.shape:
        return "wrong"
    return "correct" if np.abs(pixels - expected * 255).max() <= combination.tolerance else "wrong"


def test_every_combination_is_read_right_or_refused():
    found = {combination.name: outcome(combination) for combination in combinations()}
    expected = {one.name: "refused" if one.picture is None else "correct" for one in combinations()}
    assert len(found) == len(combinations()) > 700
    assert {name: found[name] for name in found if found[name] != expected[name]} == {}


@pytest.mark.parametrize("values", [(4095, 0), (0, float("nan")), (1, 1), (0,), "all", 7])
def test_ranges_that_make_no_sense(values):
    with pytest.raises(ValueError, match="value_range"):
        load_image(np.zeros((4, 4), np.uint16), value_range=values)


def test_a_range_hardly_used_is_said_once(monkeypatch):
    said = []
    monkeypatch.setattr("anomalyclip_hf.image_processing_anomalyclip._warn_once", said.append)
    camera = np.rint(np.linspace(0, 4095, 64)).astype(np.uint16).reshape(8, 8)
    load_image(camera, value_range=(0, 4095))
    load_image(camera * 16)
    load_image(np.full((8, 8), 40, np.uint8))
    assert not said
    load_image(camera)
    assert "--value-range" in said[0]


def test_missing_packages_are_named_and_the_file_is_not_called_damaged(tmp_path, monkeypatch):
    for package in ("pydicom", "pillow_heif", "imagecodecs"):
        monkeypatch.setitem(sys.modules, package, None)
    contents = {"pydicom": b"\0" * 128 + b"DICM", "pillow_heif": b"\0\0\0\x18ftypheic"}
    contents["imagecodecs"] = tiff(levels([RED] * 4, 8), 8, 1, compression=5)
    for package, content in contents.items():
        with pytest.raises(ValueError, match=package.replace("_", "-")) as caught:
            load_image(content)
        assert "damaged" not in str(caught.value)


def test_heic(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    heif.from_pillow(Image.fromarray(COLOUR)).save(tmp_path / "phone.heic", quality=100)
    assert_pixels(load_image(tmp_path / "phone.heic"), COLOUR, tolerance=40)  # colours at half the resolution


def write_dicom(path, values, **tags):
    """An uncompressed grey image."""
    pydicom = pytest.importorskip("pydicom")
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = meta.MediaStorageSOPInstanceUID = "1.2.3"
    file = pydicom.Dataset()
    file.file_meta = meta
    file.Rows, file.Columns = values.shape[:2]
    settings = {
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 12,
    }
    settings |= {"HighBit": 11, "PixelRepresentation": int(values.dtype.kind == "i")}
    for name, value in (settings | tags).items():
        setattr(file, name, value)
    file.PixelData = values.tobytes()
    file.save_as(path, enforce_file_format=True)
    return path


def test_dicom(tmp_path):
    plain = np.rint(GRADIENT / 255 * 4095).astype(np.uint16)
    path = tmp_path / "scan.dcm"
    assert_pixels(load_image(write_dicom(path, plain)), GRADIENT, 1)
    assert_pixels(load_image(write_dicom(path, plain, PhotometricInterpretation="MONOCHROME1")), 255 - GRADIENT, 1)
    window = {"RescaleSlope": 2, "RescaleIntercept": -1024, "WindowCenter": [40, 600], "WindowWidth": [400, 2000]}
    houndsfield = plain.astype(float) * 2 - 1024
    expected = ((houndsfield - 39.5) / 399 + 0.5).clip(0, 1) * 255
    assert_pixels(load_image(write_dicom(path, plain, **window)), expected.round(), 1)
    asked = load_image(path, value_range=(-1000, 1000))
    assert_pixels(asked, ((houndsfield + 1000) / 2000).clip(0, 1) * 255, 1)
    write_dicom(path, plain, PhotometricInterpretation="MONOCHROME1")
    assert_pixels(load_image(path, value_range=(0, 2000)), 255 - (plain / 2000 * 255).clip(0, 255).round(), 1)
    write_dicom(path, plain, WindowCenter=100, WindowWidth=1)
    assert_pixels(load_image(path), np.where(plain > 99, 255, 0))
    signed = (plain.astype(np.int16) - 1000).astype(np.int16)
    with pytest.raises(ValueError, match="--value-range"):
        load_image(write_dicom(path, signed, BitsStored=16, HighBit=15))
    frames = np.stack([plain, plain // 2])
    write_dicom(path, plain, NumberOfFrames=2)
    assert_pixels(
        load_image(write_dicom(path, frames.reshape(-1, plain.shape[1]), NumberOfFrames=2, Rows=plain.shape[0])),
        GRADIENT,
        1,
    )
    damaged = path.read_bytes()[:-20]
    with pytest.raises(ValueError, match="the image is damaged"):
        load_image(damaged)


@pytest.mark.parametrize("function", [None, "LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("centre", "width"), [(40, 400), (2000.5, 6000)])
def test_dicom_windows_are_applied_as_pydicom_does_after_rescaling(tmp_path, function, centre, width):
    pydicom = pytest.importorskip("pydicom")
    plain = np.rint(GRADIENT / 255 * 4095).astype(np.uint16)
    tags = {"RescaleSlope": 2, "RescaleIntercept": -1024, "WindowCenter": [centre, 0], "WindowWidth": [width, 9]}
    path = write_dicom(tmp_path / "scan.dcm", plain, **tags, **({"VOILUTFunction": function} if function else {}))
    file = pydicom.dcmread(path)
    shown = pydicom.pixels.apply_windowing(pydicom.pixels.apply_rescale(file.pixel_array, file), file)
    low, high = -1024, 4095 * 2 - 1024
    assert_pixels(load_image(path), ((shown - low) / (high - low) * 255).round(), 1)
    asked = ((plain * 2.0 - 1024) / 2000).clip(0, 1) * 255
    assert_pixels(load_image(path, value_range=(0, 2000)), asked.round(), 1)


def test_dicom_with_a_negative_slope(tmp_path):
    plain = np.rint(GRADIENT / 255 * 4095).astype(np.uint16)
    tags = {"RescaleSlope": -1, "RescaleIntercept": 4095}
    assert_pixels(load_image(write_dicom(tmp_path / "scan.dcm", plain, **tags)), 255 - GRADIENT, 1)
    tags |= {"PhotometricInterpretation": "MONOCHROME1"}
    assert_pixels(load_image(write_dicom(tmp_path / "scan.dcm", plain, **tags)), GRADIENT, 1)
    with pytest.raises(ValueError, match="RescaleSlope"):
        load_image(write_dicom(tmp_path / "scan.dcm", plain, RescaleSlope=0, RescaleIntercept=0))


def test_empty_elements_of_dicom_files_count_as_absent(tmp_path):
    plain = np.rint(GRADIENT / 255 * 4095).astype(np.uint16)
    names = ["WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept", "VOILUTFunction"]
    for empty in (names, *([name] for name in names)):
        path = write_dicom(tmp_path / "scan.dcm", plain, **dict.fromkeys(empty))
        assert_pixels(load_image(path), GRADIENT, 1)
    write_dicom(path, plain, WindowCenter=None, WindowWidth=100)
    assert_pixels(load_image(path), GRADIENT, 1)


def test_windows_of_enhanced_dicom_files_are_those_of_the_first_frame(tmp_path):
    pydicom = pytest.importorskip("pydicom")

    def part(**tags):
        dataset = pydicom.Dataset()
        for name, value in tags.items():
            setattr(dataset, name, value)
        return dataset

    plain = np.rint(GRADIENT / 255 * 4095).astype(np.uint16)
    frames = [part(FrameVOILUTSequence=[part(WindowCenter=c, WindowWidth=801)]) for c in (0.5, 99.5)]
    rescaled = part(PixelValueTransformationSequence=[part(RescaleSlope=2, RescaleIntercept=-1024)])
    path = write_dicom(
        tmp_path / "scan.dcm",
        np.concatenate([plain, plain // 2]),
        Rows=plain.shape[0],
        NumberOfFrames=2,
        PerFrameFunctionalGroupsSequence=frames,
        SharedFunctionalGroupsSequence=[rescaled],
    )
    assert_pixels(load_image(path), (((plain * 2.0 - 1024) + 400) / 800).clip(0, 1) * 255, 1)


def test_dicom_lookup_tables_are_said_to_be_ignored_or_refused(tmp_path, monkeypatch):
    pydicom = pytest.importorskip("pydicom")
    said = []
    monkeypatch.setattr("anomalyclip_hf.image_processing_anomalyclip._warn_once", said.append)
    plain = np.rint(GRADIENT / 255 * 4095).astype(np.uint16)
    table = pydicom.Dataset()
    table.LUTDescriptor, table.LUTData = [2, 0, 16], [0, 65535]
    table["LUTDescriptor"].VR = table["LUTData"].VR = "US"
    path = write_dicom(tmp_path / "scan.dcm", plain, VOILUTSequence=[table])
    assert_pixels(load_image(path), GRADIENT, 1)
    assert "VOI LUT" in said[0]
    with pytest.raises(ValueError, match="lookup table"):
        load_image(write_dicom(path, plain, ModalityLUTSequence=[table]))
