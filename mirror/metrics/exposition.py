"""Samples in Prometheus's text format."""

from __future__ import annotations

from collections.abc import Iterable

from mirror.metrics.definitions import Metric, Sample

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def exposition(samples: Iterable[Sample]) -> bytes:
    """The samples as text. Of several with the same labels the last counts. Raises ValueError for labels that
    the metric does not have."""
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    kinds = {"gauge": GaugeMetricFamily, "counter": CounterMetricFamily}
    values: dict[Metric, dict[tuple[str, ...], float]] = {}
    for sample in samples:
        values.setdefault(sample.metric, {})[sample.labels] = sample.value
    families = []
    for metric, several in values.items():
        family = kinds[metric.kind](metric.name, metric.text, labels=metric.labels)
        for labels, value in several.items():
            if len(labels) != len(metric.labels):
                raise ValueError(f"{metric.name} has other labels")
            family.add_metric(labels, value)
        families.append(family)

    class Collector:
        """What was collected above."""

        def collect(self) -> Iterable[object]:
            return families

    registry = CollectorRegistry()
    registry.register(Collector())  # type: ignore[arg-type]
    return bytes(generate_latest(registry))
