# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""The demo's page, in Gradio."""

import math
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from ..pipeline_anomaly_detection import DEMONSTRATION_NOTE
from .demo_scoring import DemoModel, ScoredImage
from .handler import MAX_BYTES, MAX_PIXELS


QUEUE_SIZE = 32  # requests that may wait
REDRAWS_AT_ONCE = 2
SESSIONS = 100  # visitors whose last image is kept
KEEP_SECONDS = 1800  # how long uploaded files and scored images are kept
ROWS_SHOWN = 12  # regions in the table; the JSON file has all
OPACITY = 0.7
STYLE = Path(__file__).with_name("demo.css")


class DemoPage(gr.Blocks):
    """See [`~anomalyclip_hf.serving.demo.build_demo`]."""

    is_template = True

    def __init__(self, model: str | None, *, examples: Path, **settings: Any):
        super().__init__(title="AnomalyCLIP", analytics_enabled=False, delete_cache=(KEEP_SECONDS // 2, KEEP_SECONDS))
        self.detector = DemoModel(model, **settings)
        with self:
            gr.Markdown(
                "# Zero-shot anomaly detection\nUpload an image of anything. The model scores how likely it is that "
                "something is wrong with it, and shows where.",
                elem_id="head",
            )
            if model is None:
                gr.Markdown(DEMONSTRATION_NOTE, elem_id="model-note")
            with gr.Row(elem_id="columns"):
                with gr.Column(scale=4, min_width=300):
                    self._place_inputs(sorted(examples.glob("*.png")))
                with gr.Column(scale=7, min_width=300):
                    self._place_results()
            self._connect()
        self.queue(max_size=QUEUE_SIZE, api_open=False, default_concurrency_limit=1)

    def _place_inputs(self, examples: list[Path]) -> None:
        self.image = gr.Image(
            type="filepath",
            image_mode=None,
            sources=["upload", "clipboard"],
            label="Image",
            alt_text="The uploaded image",
            height=320,
            buttons=[],
            elem_id="image",
        )
        gr.Markdown(
            f"PNG, JPEG, TIFF, BMP, WebP, GIF or PPM, up to {MAX_BYTES // 1_000_000} MB and "
            f"{MAX_PIXELS // 1_000_000} megapixels.",
            elem_classes="hint",
        )
        if examples:
            gr.Examples(
                [[str(path)] for path in examples],
                self.image,
                label="Samples",
                example_labels=[path.stem.replace("_", " ") for path in examples],
                examples_per_page=len(examples),
                cache_examples=False,
                elem_id="examples",
                api_visibility="private",
            )

    def _place_results(self) -> None:
        scorer = self.detector.scorer
        maximum, middle = scorer.map_maximum, self.detector.middle
        step = 0.01 if scorer.calibration is None else 0.001
        self.scored = gr.State(None, time_to_live=KEEP_SECONDS)
        self.verdict = gr.HTML(_waiting(), elem_id="verdict")
        self.overlay = gr.Image(
            label="Heat map",
            format="webp",
            height=520,
            interactive=False,
            buttons=["fullscreen"],
            alt_text="The heat map will be shown here",
            elem_id="overlay",
        )
        gr.HTML(_colour_bar(middle, maximum), elem_id="colours")
        with gr.Row(elem_id="sliders"):
            self.opacity = _slider("Opacity", OPACITY, "opacity", step=0.05)
            self.pixel_threshold = _slider("Pixel threshold", middle, "pixel-threshold", maximum, maximum * step)
            self.threshold = _slider("Image threshold", scorer.threshold, "threshold", step=step)
        self.regions = gr.HTML(elem_id="regions")
        with gr.Row():
            self.map_button = gr.DownloadButton("Map (TIFF, float32)", interactive=False, elem_id="map-file")
            self.json_button = gr.DownloadButton("Result (JSON)", interactive=False, elem_id="json-file")

    def _connect(self) -> None:
        views = [self.verdict, self.overlay, self.regions, self.json_button]
        sliders = [self.threshold, self.pixel_threshold, self.opacity]
        self.image.change(
            self._score,
            [self.image, *sliders],
            [self.scored, self.map_button, *views],
            preprocess=False,  # Gradio's own opens files of any format and size
            show_progress_on=self.verdict,
            api_visibility="private",
        )
        gr.on(
            [slider.input for slider in sliders],
            self._redraw,
            [self.scored, *sliders],
            views,
            show_progress="hidden",
            trigger_mode="always_last",  # a slider that moves on is drawn at its last position only
            concurrency_limit=REDRAWS_AT_ONCE,
            api_visibility="private",
        )

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *args: Any, **kwargs: Any) -> list[Any]:
        """Refuse a request that names a file which was not uploaded.

        If a request has a URL in place of a file's path, Gradio fetches it.
        """
        if not all(_is_uploaded(file["path"]) for file in _files(inputs) if file.get("path")):
            raise gr.Error("Upload the image; URLs and files of the server are not read.", print_exception=False)
        return await super().preprocess_data(block_fn, inputs, *args, **kwargs)

    def _score(self, file: dict[str, Any] | None, *sliders: float) -> tuple[Any, ...]:
        """Run the model on a new image. If it cannot be read, empty the page and say why."""
        if not file or not file.get("path"):
            return self._empty(_waiting())
        try:
            scored = self.detector.score(file["path"], MAX_PIXELS)
        except (ValueError, OSError) as error:
            return self._empty(_problem(error))
        map_button = gr.DownloadButton(value=self._keep(*scored.map_file()), interactive=True)
        return scored, map_button, *self._redraw(scored, *sliders)

    def _empty(self, verdict: str) -> tuple[Any, ...]:
        blank = gr.Image(value=None, alt_text="The heat map will be shown here")
        button = gr.DownloadButton(value=None, interactive=False)
        return None, button, verdict, blank, "", button

    def _redraw(
        self, scored: ScoredImage | None, threshold: float, pixel_threshold: float, opacity: float
    ) -> tuple[Any, ...]:
        """Draw a scored image at the positions of the sliders."""
        if scored is None:
            return gr.skip(), gr.skip(), gr.skip(), gr.skip()
        result, overlay = self.detector.draw(scored, threshold, pixel_threshold, opacity)
        alt = f"Heat map over the image: score {result['score']:.3f}, {_count(result['regions'])}"
        return (
            _verdict(result),
            gr.Image(value=overlay, alt_text=alt),
            _table(result),
            gr.DownloadButton(value=self._keep(*scored.result_file(result)), interactive=True),
        )

    def _keep(self, name: str, content: bytes) -> str:
        """Write a file to the folder from which Gradio serves files, and which it empties in time."""
        return save_bytes_to_cache(content, name, self.map_button.GRADIO_CACHE)

    def launch(self, *args: Any, **kwargs: Any) -> Any:
        """Serve the page. Takes the arguments of Gradio's `launch`."""
        settings = {
            "share": False,
            "footer_links": [],
            "run_history": False,
            "enable_monitoring": False,
            "ssr_mode": False,
            "mcp_server": False,
            "pwa": False,
            "state_session_capacity": SESSIONS,
            "max_file_size": MAX_BYTES,
            "theme": _theme(),
            "css_paths": [STYLE],
            "app_kwargs": {"middleware": [Middleware(FetchesNoUrls)]},
        }
        return super().launch(*args, **{**settings, **kwargs})


class FetchesNoUrls:
    """ASGI middleware that refuses `/gradio_api/file=https://…`, which Gradio would fetch for any visitor.

    Args:
        app (`Callable`): The ASGI application of the page.
    """

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403 to a path with a URL in it; pass on everything else."""
        answer = self.app
        if "://" in scope.get("path", ""):
            answer = PlainTextResponse("This demo fetches no URLs.", status_code=403)
        await answer(scope, receive, send)


def _files(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every dict in the data of a request; Gradio takes those with a path for files."""
    if isinstance(value, dict):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _files(part)


def _is_uploaded(path: Any) -> bool:
    try:
        return Path(path).resolve().is_relative_to(Path(get_upload_folder()).resolve())
    except (TypeError, ValueError, OSError):
        return False


def _theme() -> gr.themes.Base:
    font = gr.themes.LocalFont("IBM Plex Sans", weights=(400, 700))  # from this server
    return gr.themes.Default(primary_hue="blue", neutral_hue="slate", font=[font, "system-ui", "sans-serif"])


def _slider(label: str, value: float, name: str, maximum: float = 1, step: float = 0.01) -> gr.Slider:
    value = min(maximum, round(math.ceil(value / step - 1e-6) * step, 6))  # a calibrated threshold is not lowered
    return gr.Slider(0, maximum, value, step=step, label=label, min_width=150, buttons=[], elem_id=name)


def _waiting() -> str:
    return '<p class="waiting" role="status">Upload, drop or paste an image, or choose a sample.</p>'


def _problem(error: Exception) -> str:
    line = " ".join(str(error).split()) or type(error).__name__
    return f'<p class="problem" role="alert">{escape(line)}</p>'


def _verdict(result: dict[str, Any]) -> str:
    score, label, threshold = result["score"], result["label"], result["threshold"]
    bar = f'<i style="width:{score:.1%}"></i><b style="left:{threshold:.1%}"></b>'
    return (
        f'<div class="verdict {label}" role="status"><p><strong>{score:.3f}</strong> <span>{label}</span></p>'
        f'<div class="scale" aria-hidden="true">{bar}</div>'
        f"<small>Score from 0 to 1; anomalous from {threshold:.4g} on. The heat map reaches {result['map_peak']:.3g}."
        f"{_calibrated(result)}</small></div>"
    )


def _calibrated(result: dict[str, Any]) -> str:
    """Say what the calibration of the model makes of the score."""
    if "decision" not in result:
        return ""
    return f" Calibrated: p-value {result['p_value']:.3f}, {result['decision']}."


def _colour_bar(middle: float, maximum: float) -> str:
    """Return the scale of the heat map, which is the same for every image."""
    return (
        f'<p><span>0</span><i aria-hidden="true"></i><span>{maximum:g}</span></p>'
        f"<small>The same colours for every image: yellow is {middle:.4g}, red {maximum:g}.</small>"
    )


def _count(regions: list[dict[str, Any]]) -> str:
    return "1 region" if len(regions) == 1 else f"{len(regions) or 'no'} regions"


def _table(result: dict[str, Any]) -> str:
    regions = result["regions"]
    heading = f"<h2>{_count(regions).capitalize()} with map values from {result['pixel_threshold']:.4g} on</h2>"
    if not regions:
        return heading
    names = ("xmin", "ymin", "xmax", "ymax", "area (px)", "peak")
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    shown = ([*region["box"].values(), region["area"], f"{region['peak']:.4g}"] for region in regions[:ROWS_SHOWN])
    rows = "".join(f"<tr>{''.join(f'<td>{value}</td>' for value in values)}</tr>" for values in shown)
    rest = f"<p>The first {ROWS_SHOWN}; the JSON file has all.</p>" if len(regions) > ROWS_SHOWN else ""
    return f"{heading}<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{rest}"
