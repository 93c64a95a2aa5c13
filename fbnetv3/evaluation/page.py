"""The page of an evaluation: one HTML file that holds its plots and the worst pictures, and loads nothing."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from string import Template
from typing import Any

from fbnetv3.evaluation.measures import ClassMeasures, Evaluation, Mistake
from fbnetv3.evaluation.speed import Speed
from fbnetv3.pages.markup import STYLE, figure, fill, table
from fbnetv3.pages.plots import Plot, count

CONFUSED = 15  # kinds of mistakes in the table
SMALL = 64  # pixels; larger pictures are JPEGs, which are a tenth of the size
SHOWN = 224  # largest side of a picture on the page

PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>Evaluation: $network on $data</title>
<style>$css</style>
</head>
<body>
<main>
<h1>Evaluation of $network</h1>
<p class="note">$weights on $which of $data</p>
<p class="lead">It classifies <b>$acc1%</b> of $images correctly (95% interval $low% to $high%, by the choice of images
alone).$left</p>
<dl>$tiles</dl>
<h2>The most confident mistakes</h2>
$mistakes
<h2>Classes</h2>
$classes
<p class="note">Sorted by F1, the lowest first. Precision: of the images that got this prediction, the share that is of the
class. Recall: of the images of the class, the share that is found. F1: their harmonic mean. All in percent; &ldquo;-&rdquo;
where there is nothing to count.$bare In the means every class counts alike, however many images it has.</p>
$confusion
$confused
<h2>Calibration</h2>
$reliability
$speed
<h2>How this was measured</h2>
$made
</main>
</body>
</html>
""")
GALLERY = Template("""<p>Of $wrong, those with the highest probability for the wrong class. Some may be right, and the
label wrong. The pictures are what the network sees: resized and cropped.</p>
<div class="gallery">$rows</div>
""")
CARD = Template("""<figure class="card"><img alt="$image" src="data:image/$kind;base64,$content">
<figcaption><b>$predicted</b> $confidence<br>is $label ($of_true)<br><span>$image</span></figcaption></figure>
""")
CONFUSED_TABLE = Template("""<h3>The most frequent mistakes</h3>
$table
<p class="note">Share: of all images of the class.</p>
""")
SPEED = Template("""<h2>Speed</h2>
$table
<p class="note">The network alone on $device, images of $side &times; $side pixels, in float32, without reading images:
the median of $calls, which took turns, and the fastest and slowest of them. <code>fbnetv3 export</code> and
<code>optimize_for_inference</code> may make it faster.</p>
""")
CSS = (
    STYLE
    + """
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(8rem, 29%), 1fr)); gap: 1rem .75rem }
.card { margin: 0; min-width: 0 }
.card img { aspect-ratio: 1; object-fit: contain; image-rendering: auto; filter: none; background: var(--soft) }
.card img[src^="data:image/png"] { image-rendering: pixelated }
.card figcaption { font-size: .8rem; line-height: 1.35; overflow-wrap: anywhere }
.card span { font-size: .7rem }
"""
)


def evaluation_page(found: Evaluation, speed: Speed | None, plots: Mapping[str, Plot], facts: Mapping[str, Any]) -> str:
    """Return the page.

    Args:
        plots: `confusion` and `reliability`.
        facts: what was measured on what: at least `network`, `weights`, `data` and `split`. All of them are shown.
    """
    low, high = found.acc1_interval
    left, bare = facts.get("left_out"), without_images(found)
    text = {
        **{name: facts[name] for name in ("network", "weights", "data")},
        "which": "all images" if facts["split"] == "all" else f"the {facts['split']} images",
        "acc1": f"{found.acc1:.2f}",
        "low": f"{low:.1f}",
        "high": f"{high:.1f}",
        "images": count(found.images, "image"),
        "bare": f" {bare}" if bare else "",
        "left": f" Left out: {count(left, 'image')} that cannot be read." if left else "",
    }
    made = [[name.replace("_", " "), str(value)] for name, value in facts.items() if value is not None]
    markup = {
        "css": CSS,
        "tiles": "".join(_tile(name, value) for name, value in tiles(found, speed)),
        "mistakes": _gallery(found),
        "classes": table(CLASS_HEAD, map(class_cells, by_f1(found))),
        "confusion": figure(plots["confusion"]),
        "confused": _confused(found),
        "reliability": figure(plots["reliability"]),
        "speed": "" if speed is None else _speed(speed),
        "made": table(("what", "value"), made, "words"),
    }
    return fill(PAGE, text, markup)


CLASS_HEAD = ("class", "images", "predicted", "precision", "recall", "F1")


def by_f1(found: Evaluation) -> list[ClassMeasures]:
    """Return the classes that have images or predictions, the one with the lowest F1 first."""
    return sorted((row for row in found.per_class if row.f1 is not None), key=lambda row: row.f1 or 0.0)


def without_images(found: Evaluation) -> str:
    """Say how many classes `by_f1` leaves out; nothing if there are none."""
    bare = len(found.classes) - len(by_f1(found))
    return (
        f"Not shown: {bare} of {len(found.classes)} classes, which have neither images nor predictions." if bare else ""
    )


def class_cells(row: ClassMeasures) -> list[str]:
    """Return the cells of a class in a table."""
    return [row.name, f"{row.images:,}", f"{row.predicted:,}", *map(share, (row.precision, row.recall, row.f1))]


def share(value: float | None) -> str:
    """Return a share in percent for a table."""
    return "-" if value is None else f"{value:.1f}"


def tiles(found: Evaluation, speed: Speed | None) -> list[tuple[str, str]]:
    """Return the numbers of all images with their names."""
    rows = [("top-1 accuracy", f"{found.acc1:.2f}%")]
    rows += [] if found.acc5 is None else [("top-5 accuracy", f"{found.acc5:.2f}%")]
    rows += [("loss (cross-entropy)", f"{found.loss:.3f}"), ("mean recall", f"{found.balanced_acc1:.1f}%")]
    rows += [("mean F1", f"{found.macro_f1:.1f}%"), ("calibration error (points)", f"{found.ece:.1f}")]
    rows += [(f"{count(row.batch, 'image')} at once", f"{row.ms:,.1f} ms") for row in (speed.batches if speed else ())]
    return rows


def _tile(name: str, value: str) -> str:
    return f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd></div>"


def _gallery(found: Evaluation) -> str:
    wrong = found.images - found.hits
    if not wrong:
        return "<p>There is no mistake.</p>"
    return fill(GALLERY, {"wrong": count(wrong, "mistake")}, {"rows": "".join(map(_card, found.mistakes))})


def _card(mistake: Mistake) -> str:
    kind, content = picture(mistake.pixels)
    text = {
        "image": mistake.image,
        "predicted": mistake.predicted,
        "label": mistake.label,
        "confidence": f"{mistake.confidence:.1%}",
        "of_true": f"{mistake.of_true:.1%}",
    }
    return fill(CARD, text, {"kind": kind, "content": base64.b64encode(content).decode()})


def picture(pixels: Any) -> tuple[str, bytes]:
    """Return uint8 pixels [c, h, w] as the content of an image file, and its kind. Of other channels than RGB, the first."""
    from PIL import Image

    image = Image.fromarray(pixels.transpose(1, 2, 0) if len(pixels) == 3 else pixels[0])
    image.thumbnail((SHOWN, SHOWN))
    kind, buffer = "png" if max(image.size) <= SMALL else "jpeg", io.BytesIO()
    image.save(buffer, kind, **({"quality": 88} if kind == "jpeg" else {}))
    return kind, buffer.getvalue()


def _confused(found: Evaluation) -> str:
    of_class = {row.name: row.images for row in found.per_class}
    rows = [
        [label, predicted, f"{images:,}", f"{100 * images / of_class[label]:.1f}%"]
        for label, predicted, images in found.confused()[:CONFUSED]
    ]
    if not rows:
        return ""
    return fill(CONFUSED_TABLE, {}, {"table": table(("class", "prediction", "images", "share"), rows, "words")})


SPEED_HEAD = ("images at once", "ms", "fastest", "slowest", "images/s")


def speed_rows(speed: Speed) -> Sequence[list[str]]:
    """Return the cells of the times in a table."""
    return [
        [str(row.batch), *(f"{ms:,.2f}" for ms in (row.ms, row.fastest, row.slowest)), f"{row.images_per_s:,.1f}"]
        for row in speed.batches
    ]


def _speed(speed: Speed) -> str:
    text = {"device": speed.device, "side": speed.side, "calls": count(speed.calls, "call")}
    return fill(SPEED, text, {"table": table(SPEED_HEAD, speed_rows(speed))})
