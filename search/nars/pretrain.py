"""Stage 1, predictor pretraining: the encoder learns free statistics of the pool (sections 3.2 and 4.2)."""

from __future__ import annotations

from fbnetv3.search.nars.context import Context
from fbnetv3.search.predictor.diagnostics import Statistic, held_out_statistics
from fbnetv3.search.predictor.model import AccuracyPredictor
from fbnetv3.search.space.encoding import arch_mask, encode
from fbnetv3.search.space.space import IntMatrix


def pretrained_predictor(context: Context) -> AccuracyPredictor:
    """Return a predictor whose encoder has learnt the statistics of 80% of the pool, and which starts from the sources."""
    mask, settings = arch_mask(context.space), context.config.predictor
    predictor = AccuracyPredictor(mask, seed=context.config.seed, settings=settings)
    if settings.pretrain:
        rows, _ = _split(context.pool())
        names, labels = context.space.statistics(rows)
        columns = [i for i, name in enumerate(names) if settings.rich_labels or name in ("flops", "params")]
        predictor.pretrain(encode(context.space, rows)[:, mask], labels[:, columns].astype(float))
    if context.sources:
        predictor.start_from([source.lesson(context.space) for source in context.sources])
    return predictor


def proxy_statistics(context: Context, predictor: AccuracyPredictor) -> tuple[Statistic, ...]:
    """Return what the encoder predicts for the 20% of the pool that it was not pretrained on."""
    return held_out_statistics(context.space, predictor, _split(context.pool())[1])


def _split(pool: IntMatrix) -> tuple[IntMatrix, IntMatrix]:
    """Return the first 80% of the pool, to pretrain on, and the rest (section 4.2)."""
    train = len(pool) * 4 // 5
    return pool[:train], pool[train:]
