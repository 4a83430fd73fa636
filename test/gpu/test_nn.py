"""Networks on the GPU, every layer against plain numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from networks import SMALL, equal, random_images

import bitmlir
from bitmlir import nn
from bitmlir.nn import zoo
from bitmlir.runtime.driver import DeviceArray

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("target", ["auto", "sm_80", "sm_75"])
@pytest.mark.parametrize("name", SMALL)
def test_every_layer_is_exact(name: str, target: str) -> None:
    model = nn.compile(SMALL[name], batch=37, target=target, every=True)
    images = random_images(model)
    equal(model(images), model.reference(images))


@pytest.mark.parametrize("target", ["auto", "sm_80", "sm_75"])
@pytest.mark.parametrize("name", SMALL)
def test_what_a_network_yields_is_exact(name: str, target: str) -> None:
    """Images that nobody else sees may lie in memory in other ways than results do."""
    model = nn.compile(SMALL[name], batch=37, target=target)
    images = random_images(model)
    equal(model(images), model.reference(images))


@pytest.mark.parametrize("bits", [1, 2])
@pytest.mark.parametrize("name", zoo.NETWORKS)
def test_every_layer_of_the_known_networks_is_exact(name: str, bits: int) -> None:
    network = zoo.network(name, zoo.RandomParameters(3), bits)
    model = nn.compile(network, batch=2, every=True)
    images = random_images(model)
    expected = model.reference(images)
    equal(model(images), expected)
    alone = nn.compile(network, batch=2)  # whose layers nobody else sees
    equal(alone(images), expected[-1])


def test_tensors_go_in_and_come_out_and_a_graph_replays_it_all() -> None:
    torch = pytest.importorskip("torch")
    model = nn.compile(zoo.network("cifar10-vgg", zoo.RandomParameters(4)), batch=6)
    images = random_images(model)
    device = torch.from_numpy(images).cuda()
    bound = model.bind(device)
    logits = bound()
    np.testing.assert_array_equal(logits.cpu().numpy(), model.reference(images))
    images = 255 - images
    device.copy_(torch.from_numpy(images))
    graph = bound.graph()
    np.testing.assert_array_equal(graph().cpu().numpy(), model.reference(images))


@pytest.mark.parametrize("name", [*SMALL, "mnist-mlp", "cifar10-vgg"])
def test_a_saved_network_is_exact_run_after_run_in_memory_that_its_layers_share(name: str, tmp_path: Path) -> None:
    layer = SMALL[name] if name in SMALL else zoo.network(name, zoo.RandomParameters(5))
    model = nn.compile(layer, batch=9)
    model.save(tmp_path / "net.bitmlir")
    network = bitmlir.load(tmp_path / "net.bitmlir")
    place = DeviceArray.from_numpy(random_images(model))
    bound = network.bind(place)
    graph = bound.graph()
    for seed in range(4):
        images = random_images(model, seed)
        place.copy_from(images)
        for _ in range(20):  # they overlap
            bound.run()
        equal(bound(), model.reference(images))
        equal(graph(), model.reference(images))
