# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""The demo's page, in Gradio."""

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

from ..assets import DEFAULT_MODEL_NOTE
from .demo_scoring import DemoModel, Drawing, ScoredImage, map_file, result_file, slider_range
from .handler import MAX_BYTES, MAX_PIXELS


QUEUE_SIZE = 32  # requests that may wait
REDRAWS_AT_ONCE = 2
SESSIONS = 100  # of which an image is kept
KEEP_SECONDS = 1800  # files and images of visitors
ROWS_SHOWN = 12  # regions in the table; the JSON file has them all
OPACITY = 0.7
STYLE = Path(__file__).with_name("demo.css")


class DemoPage(gr.Blocks):
    """See [`~anomalyclip_hf.serving.demo.build_demo`]."""

    is_template = True

    def __init__(self, model: str | None, *, examples: Path):
        super().__init__(title="AnomalyCLIP", analytics_enabled=False, delete_cache=(KEEP_SECONDS // 2, KEEP_SECONDS))
        self.detector = DemoModel(model)
        with self:
            gr.Markdown(
                "# Zero-shot anomaly detection\nGive an image of anything. The model says how likely it is that "
                "something is wrong with it, and shows where.",
                elem_id="head",
            )
            if model is None:
                gr.Markdown(DEFAULT_MODEL_NOTE.replace("No --model given: this", "This"), elem_id="model-note")
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
            alt_text="The image that was given",
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
                label="Or one of these",
                example_labels=[path.stem.replace("_", " ") for path in examples],
                examples_per_page=len(examples),
                cache_examples=False,
                elem_id="examples",
                api_visibility="private",
            )

    def _place_results(self) -> None:
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
        with gr.Row(elem_id="sliders"):
            self.opacity = _slider("Opacity", OPACITY, "opacity", step=0.05)
            self.pixel_threshold = _slider("Pixel threshold", 0.5, "pixel-threshold")
            self.threshold = _slider("Image threshold", self.detector.processor.threshold, "threshold")
        self.regions = gr.HTML(elem_id="regions")
        with gr.Row():
            self.map_button = gr.DownloadButton("Map (TIFF, float32)", interactive=False, elem_id="map-file")
            self.json_button = gr.DownloadButton("Result (JSON)", interactive=False, elem_id="json-file")

    def _connect(self) -> None:
        views = [self.verdict, self.overlay, self.regions, self.json_button]
        sliders = [self.threshold, self.pixel_threshold, self.opacity]
        self.image.change(
            self._score,
            [self.image, self.threshold, self.opacity],
            [self.scored, self.pixel_threshold, self.map_button, *views],
            preprocess=False,  # Gradio's own opens files of any format
            show_progress_on=self.verdict,
            api_visibility="private",
        )
        gr.on(
            [slider.input for slider in sliders],
            self._redraw,
            [self.scored, *sliders],
            views,
            show_progress="hidden",
            trigger_mode="always_last",  # of a slider that moves on, only the last position is drawn
            concurrency_limit=REDRAWS_AT_ONCE,
            api_visibility="private",
        )

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *args: Any, **kwargs: Any) -> list[Any]:
        """Refuse a request that names a file which was not uploaded.

        Where a request has a URL in place of a file's path, Gradio fetches it.
        """
        if not all(_is_uploaded(file["path"]) for file in _files(inputs) if file.get("path")):
            raise gr.Error("Upload the image; URLs and files of the server are not read.", print_exception=False)
        return await super().preprocess_data(block_fn, inputs, *args, **kwargs)

    def _score(self, file: dict[str, Any] | None, threshold: float, opacity: float) -> tuple[Any, ...]:
        """Run the model on a new image; an image that cannot be read empties the page and says why."""
        if not file or not file.get("path"):
            return self._empty(_waiting())
        try:
            return self._score_file(file["path"], threshold, opacity)
        except (ValueError, OSError, MemoryError) as error:
            return self._empty(_problem(error))

    def _score_file(self, path: str, threshold: float, opacity: float) -> tuple[Any, ...]:
        scored = self.detector.score(path, MAX_PIXELS)
        maximum, value = slider_range(self.detector.map_peak(scored), self.detector.processor.pixel_threshold)
        drawing = self.detector.draw(scored, threshold, value, opacity)
        slider = gr.Slider(maximum=maximum, value=value, step=maximum / 100)
        file = gr.DownloadButton(value=self._keep(*map_file(scored, drawing)), interactive=True)
        return scored, slider, file, *self._views(scored, drawing, threshold, value)

    def _empty(self, verdict: str) -> tuple[Any, ...]:
        blank = gr.Image(value=None, alt_text="The heat map will be shown here")
        button = gr.DownloadButton(value=None, interactive=False)
        return None, gr.skip(), button, verdict, blank, "", button

    def _redraw(
        self, scored: ScoredImage | None, threshold: float, pixel_threshold: float, opacity: float
    ) -> tuple[Any, ...]:
        """Draw again what was scored, as the sliders now stand."""
        if scored is None:
            return gr.skip(), gr.skip(), gr.skip(), gr.skip()
        drawing = self.detector.draw(scored, threshold, pixel_threshold, opacity)
        return self._views(scored, drawing, threshold, pixel_threshold)

    def _views(
        self, scored: ScoredImage, drawing: Drawing, threshold: float, pixel_threshold: float
    ) -> tuple[Any, ...]:
        result = drawing.result
        alt = f"Heat map over the image: score {result['score']:.3f}, {_count(result['regions'])}"
        file = self._keep(*result_file(scored, drawing, threshold, pixel_threshold))
        return (
            _verdict(result, threshold),
            gr.Image(value=drawing.overlay, alt_text=alt),
            _table(result["regions"], pixel_threshold),
            gr.DownloadButton(value=file, interactive=True),
        )

    def _keep(self, name: str, content: bytes) -> str:
        """Write a file where Gradio serves it and removes it in time."""
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


def _slider(label: str, value: float, name: str, step: float = 0.01) -> gr.Slider:
    return gr.Slider(0, 1, value, step=step, label=label, min_width=150, buttons=[], elem_id=name)


def _waiting() -> str:
    return '<p class="waiting" role="status">Upload, drop or paste an image, or choose one of the samples.</p>'


def _problem(error: Exception) -> str:
    line = " ".join(str(error).split()) or type(error).__name__
    return f'<p class="problem" role="alert">{escape(line)}</p>'


def _verdict(result: dict[str, Any], threshold: float) -> str:
    score, label = result["score"], result["label"]
    bar = f'<i style="width:{score:.1%}"></i><b style="left:{threshold:.1%}"></b>'
    return (
        f'<div class="verdict {label}" role="status"><p><strong>{score:.3f}</strong> <span>{label}</span></p>'
        f'<div class="scale" aria-hidden="true">{bar}</div><small>Score from 0 to 1; anomalous from {threshold:g} on. '
        "Red in the map marks this image's own peak: where to look first, not how much is wrong.</small></div>"
    )


def _count(regions: list[dict[str, Any]]) -> str:
    return "1 region" if len(regions) == 1 else f"{len(regions) or 'no'} regions"


def _table(regions: list[dict[str, Any]], pixel_threshold: float) -> str:
    heading = f"<h2>{_count(regions).capitalize()} where the map reaches {pixel_threshold:.4g}</h2>"
    if not regions:
        return heading
    names = ("xmin", "ymin", "xmax", "ymax", "area (px)", "peak")
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    shown = ([*region["box"].values(), region["area"], f"{region['peak']:.4g}"] for region in regions[:ROWS_SHOWN])
    rows = "".join(f"<tr>{''.join(f'<td>{value}</td>' for value in values)}</tr>" for values in shown)
    rest = f"<p>The first {ROWS_SHOWN}; the JSON file has all.</p>" if len(regions) > ROWS_SHOWN else ""
    return f"{heading}<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{rest}"
