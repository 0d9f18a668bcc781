"""The layers of Keras' own tests: each configuration is converted as Keras computes it, or refused.

What is refused is listed by name and reason, so that a rule that is lost shows.
"""

from __future__ import annotations

import pytest

from tests.helpers.keras_own_judging import NoModelError, Outcome, entries, ledger, wrong
from tests.helpers.keras_own_layers import changes_of, judge_layer
from tests.helpers.keras_own_tests import LayerConfig, layer_configs, modules
from tests.helpers.paths import GOLDEN

REFUSED = GOLDEN / "keras_layers_refused.txt"

#: A few of the modules, in the default suite; the others, and quantised layers, are slow.
QUICK = ("layers.normalization.layer_normalization_test", "layers.pooling.average_pooling_test")

#: How many configurations of a module are quantised and adapted too.
CHANGED = 5


def outcomes(configs: list[LayerConfig], changed: bool) -> list[Outcome]:
    found = []
    for number, config in enumerate(configs):
        changes = changes_of(config) if changed and number < CHANGED else {}
        for name, change in {"": None, **changes}.items():
            try:
                found += judge_layer(config, change, " ".join(filter(None, (config.kind.__name__, name))))
            except NoModelError:
                continue
    return found


def name_of(outcome: Outcome) -> str:
    return f"{outcome.test.rpartition('.')[0].rpartition('.')[0]}: {outcome.case}"


@pytest.mark.parametrize("module", QUICK)
def test_some_layers(module):
    found = outcomes(layer_configs(module), changed=False)
    assert found
    assert not wrong(found)
    assert ledger(found, name_of) <= entries(REFUSED)


@pytest.mark.slow
@pytest.mark.parametrize("module", modules("layers"))
def test_layers(module):
    found = outcomes(layer_configs(module), changed=True)
    assert not wrong(found)
    assert ledger(found, name_of) <= entries(REFUSED)
