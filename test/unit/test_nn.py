"""Networks: every layer exactly as plain numpy has it, what is folded into what, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from networks import SMALL, equal, random_images

import bitmlir
from bitmlir import Packed, nn, unpack
from bitmlir.dialects.errors import EncodingError, InputError, ShapeError
from bitmlir.nn import zoo
from bitmlir.nn.fold import fold
from bitmlir.nn.graph import layers_before
from bitmlir.nn.layers import BatchNorm, Input, Layer, Linear, Quantise, Sign
from bitmlir.nn.plan import program_of
from bitmlir.nn.steps import Limits, Numbers, Pool, Product, Start


@pytest.mark.parametrize("name", SMALL)
def test_every_layer_is_exact_on_the_cpu(name: str) -> None:
    model = nn.compile(SMALL[name], batch=3, target="cpu", every=True)
    images = random_images(model)
    equal(model(images), model.reference(images))


@pytest.mark.parametrize("bits", [1, 2])
@pytest.mark.parametrize("name", zoo.NETWORKS)
def test_every_layer_of_the_known_networks_is_exact_on_the_cpu(name: str, bits: int) -> None:
    layer = zoo.network(name, zoo.RandomParameters(1), bits)
    model = nn.compile(layer, 2, "cpu", every=True)
    images = random_images(model)
    equal(model(images), model.reference(images))


def test_a_network_yields_its_last_layer() -> None:
    layer = zoo.network("mnist-mlp", zoo.RandomParameters(2))
    model = nn.compile(layer, batch=4, target="cpu")
    images = random_images(model)
    logits = model(images)
    assert logits.dtype == np.float32
    assert logits.shape == (4, 10)
    np.testing.assert_array_equal(logits, model.reference(images))
    bound = model.bind(images)
    images[:] = 255 - images
    np.testing.assert_array_equal(bound(), model.reference(images))


def _reals(layer: Layer) -> list[Numbers]:
    """Real numbers that are stored between steps."""
    program = program_of(layer)
    stored = [value for step in program.steps for value in step.results if isinstance(value, Numbers)]
    return [numbers for numbers in stored if numbers.is_real and numbers is not program.output]


def test_real_numbers_that_may_leave_f16_are_stored_in_f32() -> None:
    assert [numbers.element for numbers in _reals(SMALL["large residuals"])] == ["f32"] * 4 + ["f16"]
    model = nn.compile(SMALL["large residuals"], batch=2, target="cpu", every=True)
    results = model(np.full((2, 9, 8, 3), 255, np.uint8))
    wide = [result for result in results if isinstance(result, np.ndarray) and result.dtype == np.float32]
    assert all(np.isfinite(result).all() for result in wide)
    assert sum(np.abs(result).max() > 65504 for result in wide) == 4


@pytest.mark.parametrize("layer", [SMALL["real residuals"], SMALL["several ways"], "resnet18-bireal"])
def test_other_real_numbers_are_stored_in_f16(layer: Layer | str) -> None:
    reals = _reals(zoo.network(layer, zoo.RandomParameters(0)) if isinstance(layer, str) else layer)
    assert reals
    assert {numbers.element for numbers in reals} == {"f16"}


def test_integers_are_stored_in_as_few_bits_as_hold_them() -> None:
    def stored(layer: Layer) -> list[tuple[str, bool]]:
        """The types of what is stored but for the output, and whether it is less an origin."""
        program = program_of(layer)
        results = [value for step in program.steps for value in step.results]
        found = [value for value in results if isinstance(value, Numbers) and value is not program.output]
        return [(numbers.element, numbers.origin is not None) for numbers in found]

    assert set(stored(SMALL["small residuals"])) == {("i8", False), ("i8", True)}
    for layer in (SMALL["whole residuals"], zoo.network("resnet18", zoo.RandomParameters(0))):
        assert "i16" in {element for element, _ in stored(layer)} <= {"i16", "i32"}


@pytest.mark.parametrize(("sum_", "element"), [(65519, "f16"), (65520, "f32")])
def test_f16_ends_where_rounding_makes_infinity(sum_: int, element: str) -> None:
    norm = BatchNorm(Linear(Input((1,)), np.ones((1, 1))), [1 / 255], [sum_ - 1.0], [0.0], [1.0], epsilon=0.0)  # type: ignore[arg-type]
    (numbers,) = _reals(nn.Add(norm, norm))
    assert numbers.element == element


def test_what_follows_a_product_is_folded_into_it() -> None:
    program = program_of(SMALL["images"])
    assert [type(step) for step in program.steps] == [Start, Product, Pool, Product, Product]
    assert [len(step.layers) for step in program.steps] == [1, 3, 1, 3, 1]


def test_filters_in_groups_see_pixels_of_the_first_layer() -> None:
    """Patches hold the channels of all taps side by side, not those of a group."""
    filters = nn.Conv2d(nn.Input((6, 6, 4)), np.ones((4, 3, 3, 2), int), padding=1, groups=2)
    start, product = program_of(filters).steps
    assert isinstance(start, Start)
    assert isinstance(product, Product)
    assert (start.size, start.codes.shape, product.groups) == (None, (6, 6, 4), 2)


# --- folding -----------------------------------------------------------------------------------------

FLAT = Linear(Input((4,)), np.ones((5, 4)))
GAMMA = np.array([1.0, -0.5, 0.0, 1e-9, -3.0])


@pytest.mark.parametrize("make", [Sign, lambda x: Quantise(x, 2, 0.75), lambda x: Quantise(x, 3, 3e-9)])
def test_thresholds_say_what_the_layers_say_of_every_sum(make: Any) -> None:
    norm = BatchNorm(FLAT, GAMMA, np.array([0.1, 0.2, -0.3, 0.0, 5.0]), np.arange(5.0), np.full(5, 2.0))
    layers: list[Layer] = [norm, make(norm)]
    bounds = np.array([40, 41, 42, 43, 44])
    folded = fold(layers, bounds)
    codes = layers[-1].codes
    assert codes is not None
    for channel, bound in enumerate(bounds):
        sums = np.arange(-bound, bound + 1)
        values = np.zeros((len(sums), 5))
        values[:, channel] = sums
        expected = layers[1].apply(norm.apply(values))[:, channel]
        signed = -sums if folded.falls[channel] else sums
        code = (signed[:, None] >= folded.limits[:, channel]).sum(1)
        np.testing.assert_array_equal(codes.scale * code + codes.offset, expected)


def test_falling_channels_turn_their_weights_where_an_encoding_has_those_of_the_other_sign() -> None:
    for encoding, turned in (("bipolar", True), ("ternary", True), ("i2", False)):
        sums = Linear(Input((4,)), np.ones((2, 4)), encoding)
        norm = BatchNorm(sums, np.array([1, -1]), np.zeros(2), np.zeros(2), np.ones(2))
        product = program_of(Sign(norm)).steps[1]
        assert isinstance(product, Product)
        assert isinstance(product.epilogue.coding, Limits)
        assert (product.epilogue.coding.signs is None) == turned


# --- what is refused ----------------------------------------------------------------------------------

IMAGES = Input((6, 6, 2))
SUMS = nn.Conv2d(IMAGES, np.ones((4, 3, 3, 2)))
CODES = Sign(SUMS)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Input((4, 4)), ShapeError, r"\(height, width, channels\) or \(features,\), got \(4, 4\)"),
        (lambda: nn.Conv2d(IMAGES, np.ones((4, 3, 3, 3))), ShapeError, r"\(filters, R, S, 2\), got \(4, 3, 3, 3\)"),
        (lambda: nn.Conv2d(IMAGES, np.ones((4, 9, 3, 2))), ShapeError, "reach farther than padded images"),
        (lambda: nn.Conv2d(IMAGES, np.zeros((4, 3, 3, 2))), EncodingError, "0"),
        (lambda: nn.Conv2d(IMAGES, np.full((4, 3, 3, 2), 0.5)), InputError, "must be whole numbers"),
        (lambda: nn.Conv2d(IMAGES, np.ones((4, 3, 3, 2)), "u2@row"), EncodingError, "no zero point a row"),
        (
            lambda: nn.Conv2d(IMAGES, np.ones((4, 3, 3, 2)), stride=0),
            ShapeError,
            "stride of Conv2d must be a whole",
        ),
        (
            lambda: nn.Conv2d(IMAGES, np.ones((4, 3, 3, 2)), groups=0),
            ShapeError,
            "groups must be a whole number from 1",
        ),
        (lambda: nn.Conv2d(IMAGES, np.ones((4, 3, 3, 2)), groups=2), ShapeError, r"S, 1\), got \(4, 3, 3, 2\)"),
        (lambda: nn.Conv2d(IMAGES, np.ones(4), groups=2), ShapeError, r"S, 1\), got \(4,\)"),
        (
            lambda: nn.Conv2d(IMAGES, np.ones((4, 3, 3, 1)), groups=3),
            ShapeError,
            "Conv2d: .* the 3 groups, but are 2 and 4",
        ),
        (
            lambda: nn.Conv2d(IMAGES, np.ones((3, 3, 3, 1)), groups=2),
            ShapeError,
            "multiples of the 2 groups, but are 2 and 3",
        ),
        (
            lambda: nn.Conv2d(IMAGES, np.ones((4, 3, 3, 1)), "bipolar8", groups=2),
            EncodingError,
            "'bipolar8' would take nine",
        ),
        (lambda: nn.Linear(IMAGES, np.ones((4, 72))), ShapeError, "flatten what has several sizes"),
        (lambda: nn.Linear(FLAT, np.ones((3, 5))), EncodingError, "Linear yields sums: put a Sign or Quantise"),
        (lambda: nn.MaxPool2d(FLAT, 2), ShapeError, "MaxPool2d needs images"),
        (lambda: nn.MaxPool2d(CODES, 5), ShapeError, "does not fit images of"),
        (lambda: nn.Quantise(FLAT, 9), InputError, "bits of Quantise must be from 1 to 8, got 9"),
        (lambda: nn.Quantise(FLAT, 1, signed=True), InputError, "bits of Quantise must be from 2 to 8, got 1"),
        (lambda: nn.Quantise(FLAT, 2, narrow=True), InputError, "narrow with a sign alone"),
        (lambda: nn.Quantise(FLAT, 2, -1.0), InputError, "must be a positive number, got -1.0"),
        (lambda: BatchNorm(FLAT, *[np.ones(4)] * 4), ShapeError, r"gamma of BatchNorm must have the shape \(5,\)"),
        (
            lambda: BatchNorm(FLAT, np.array([1, 2, np.nan, 1, 1]), *[np.ones(5)] * 3),
            InputError,
            "gamma of BatchNorm must be finite, but of channel 2 it is not",
        ),
        (
            lambda: BatchNorm(FLAT, *[np.ones(5)] * 3, np.array([1, 1, 1, -1, 1])),
            InputError,
            "the variance of BatchNorm must be positive, but of channel 3 it is -1",
        ),
        (lambda: nn.compile(FLAT, 0, "cpu"), ShapeError, "batch must be a whole number from 1 to 134217728, got 0"),
        (lambda: nn.compile(np.ones(3), 1, "cpu"), InputError, "given by its last layer, got ndarray"),  # type: ignore[arg-type]
        (lambda: nn.compile(nn.Flatten(CODES), 1, "cpu"), InputError, "a network cannot end in Flatten"),
        (lambda: Sign(IMAGES), EncodingError, "Sign needs numbers, but Input yields codes"),
        (lambda: BatchNorm(CODES, *[np.ones(4)] * 4), EncodingError, "BatchNorm needs numbers, but Sign yields codes"),
        (lambda: nn.AvgPool2d(CODES, 2), EncodingError, "AvgPool2d needs numbers"),
        (lambda: nn.Add(FLAT, CODES), EncodingError, "Add needs numbers, but Sign yields codes"),
        (lambda: nn.Add(FLAT, SUMS), ShapeError, r"Add needs layers of one shape, got \(5,\) and \(4, 4, 4\)"),
        (lambda: nn.Add(FLAT, 3), InputError, "Add follows a layer, got int"),  # type: ignore[arg-type]
        (lambda: nn.PadChannels(SUMS, 3), ShapeError, "PadChannels must reach 4 channels at least, got 3"),
        (lambda: nn.PadChannels(FLAT, 9), ShapeError, "PadChannels needs images"),
        (lambda: nn.Add(nn.Linear(Input((4,)), np.ones((5, 4))), FLAT), InputError, "one Input, but this one has 2"),
        (lambda: nn.Conv2d(nn.Sign(nn.Flatten(SUMS)), np.ones((1, 1, 1, 64))), ShapeError, "Conv2d needs images"),
        (lambda: BatchNorm(nn.Flatten(SUMS), *[np.ones(64)] * 4), InputError, "Flatten of numbers must come before"),
        (lambda: zoo.network("resnet", zoo.RandomParameters(0)), InputError, "unknown network 'resnet': expected one"),
        (lambda: zoo.network("mnist-mlp", zoo.GivenParameters({})), InputError, r"needs an array 'linear1.weights' of"),
        (
            lambda: zoo.network("mnist-mlp", zoo.GivenParameters({"linear1.weights": np.ones((3, 3))})),
            ShapeError,
            r"'linear1.weights' must have the shape \(1024, 784\), got \(3, 3\)",
        ),
    ],
)
def test_what_cannot_be_is_refused(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        nn.compile(layer, 1, "cpu") if isinstance(layer := make(), Layer) else None


@pytest.mark.parametrize("mean", [0.0, 0.1307, 0.485, -3.0])
@pytest.mark.parametrize("std", [1.0, 0.3081, 0.225, 1 / 255, 40.0])
def test_normalised_pixels_come_back(mean: float, std: float) -> None:
    start = Input((256,), mean=mean, std=std)
    pixels = np.arange(256, dtype=np.uint8)[None]
    as_torchvision = ((pixels.astype(np.float32) / 255) - np.float32(mean)) / np.float32(std)
    np.testing.assert_array_equal(start.normalised(pixels), as_torchvision)
    np.testing.assert_array_equal(start.apply(as_torchvision), pixels)
    np.testing.assert_array_equal(Input((256,)).normalised(pixels), pixels)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"mean": 0.5}, InputError, "has a mean and a std: give both"),
        ({"std": 0.5}, InputError, "has a mean and a std: give both"),
        ({"mean": [0.5, 0.5], "std": 1}, ShapeError, r"mean of Input must be one number, or have the shape \(3,\)"),
        ({"mean": 0, "std": [1, 1, 0]}, InputError, "the std of Input must be positive, got 0"),
        ({"mean": 0, "std": 1e-60}, InputError, "the std of Input must be positive, got 0"),
        ({"mean": np.nan, "std": 1}, InputError, "mean of Input must be finite in float32"),
        ({"mean": "a", "std": 1}, InputError, "mean of Input must be an array of numbers"),
    ],
)
def test_means_that_cannot_be_are_refused(given: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Input((5, 4, 3), **given)


def test_images_that_do_not_fit_are_refused() -> None:
    model = nn.compile(FLAT, 2, "cpu")
    with pytest.raises(ShapeError, match=r"inputs must have the shape \(2, 4\), got \(3, 4\)"):
        model(np.zeros((3, 4), np.uint8))
    with pytest.raises(InputError, match="must be of type uint8, got float32: convert them, or give Input the mean"):
        model(np.zeros((2, 4), np.float32))
    normalised = nn.compile(Linear(Input((4,), mean=0, std=1), np.ones((5, 4))), 2, "cpu")
    for dtype in (np.uint8, np.float64, np.float16):
        with pytest.raises(InputError, match=f"must be of type float32, got {np.dtype(dtype)}: convert them"):
            normalised(np.zeros((2, 4), dtype))
    with pytest.raises(ShapeError, match="got no array"):
        model([[1, 2, 3, 4]] * 2)
    with pytest.raises(InputError, match="the input must be of type uint8, got int64"):
        model.reference(np.zeros((2, 4), np.int64))


def test_batch_norms_in_the_end_are_those_of_float64_nearly() -> None:
    """They are one scale and one bias in float32 there."""
    rng = np.random.default_rng(3)
    layer: Layer = Linear(Input((30,)), rng.choice([-1, 1], (6, 30)))
    for _ in range(2):
        layer = BatchNorm(layer, *rng.normal(size=(3, 6)), rng.uniform(1, 2, 6))
    model = nn.compile(layer, 5, "cpu")
    images = random_images(model)
    values = images
    for step in layers_before(layer):
        values = step.apply(values)
    np.testing.assert_allclose(model(images), values, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [*SMALL, "mnist-mlp"])
def test_programs_compute_what_the_layers_say(name: str) -> None:
    """Layer after layer, without what the program folds: exactly where all is integers, else nearly."""
    layer = SMALL[name] if name in SMALL else zoo.network(name, zoo.RandomParameters(3))
    model = nn.compile(layer, 2, "cpu")
    values: dict[Layer, np.ndarray] = {}
    images = random_images(model)
    for one in layers_before(layer):
        values[one] = one.apply(*(values[source] for source in one.sources)) if one.sources else one.apply(images)
    result, expected = model(images), values[layer]
    numbers = unpack(result) if isinstance(result, Packed) else np.asarray(result)
    if any(one.is_real for one in layers_before(layer)):
        near = np.isclose(numbers.reshape(expected.shape), expected, rtol=0.01, atol=0.01 * np.abs(expected).max())
        assert near.mean() > 0.9
    else:
        np.testing.assert_array_equal(numbers.reshape(expected.shape), expected)


def test_layers_show_themselves_alone() -> None:
    assert len(repr(zoo.network("resnet18-bireal", zoo.RandomParameters(0)))) < 200


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: _doubled(DEEP, 4), r"numbers of .*Add\(8×8×2\) may lie .* must fit in int32: put a Batch"),
        (lambda: nn.AvgPool2d(DEEP, 5, 1), r"numbers of AvgPool2d\(4×4×2\) may lie .* must fit in int32: put a Batch"),
        (lambda: MANY, r"numbers of Linear\(70000→1\) may lie from 0 to 2266950000, but .* codes of fewer bits"),
        (
            lambda: BatchNorm(MANY, *[np.ones(1)] * 4),
            r"numbers of Linear\(70000→1\) and BatchNorm\(1\) may lie from 0 to 2266950000, .* codes of fewer bits",
        ),
    ],
)
def test_numbers_that_leave_int32_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        nn.compile(make(), 1, "cpu")


@pytest.mark.parametrize(
    ("make", "batch", "target", "message"),
    [
        (
            lambda: nn.Conv2d(CODES, np.ones((8, 1, 1, 4))),
            2**23,
            "sm_90a",
            r"^Conv2d\(2→4\), in step 1 of 3 for a batch of 8388608, is more than a program can "
            r"have \(take a smaller batch or layer\): .* at most 134217728 pixels in all",
        ),
        (lambda: nn.Conv2d(WIDE, np.ones((8, 3, 3, 70)), padding=1), 2**22, "cpu", r"^Conv2d\(70→8\), .* 8 GiB or"),
        (
            lambda: nn.Conv2d(WIDE, np.ones((8, 3, 3, 70)), padding=2**13),
            1,
            "cpu",
            r"^Conv2d\(70→8\), in step 3 of 3 for a batch of 1, .*\(take a smaller layer\): .* places in all images",
        ),
        (
            lambda: nn.MaxPool2d(nn.Sign(nn.Conv2d(WIDE, np.ones((8, 1, 1, 70)))), 2**13, 1, 2**13 - 1),
            4,
            "sm_80",
            r"^MaxPool2d\(8195×8195×8\), in step 4 of 4 for a batch of 4",
        ),
        (lambda: FLAT, 2**30, "cpu", "^batch must be a whole number from 1 to 134217728, got 1073741824"),
        (
            lambda: Linear(Input((70000,)), np.ones((1, 70000)), "i8"),
            1,
            "cpu",
            r"^Linear\(70000→1\), in step 2 of 2 .*\(take a smaller layer\): .* can leave int32: .* of at most 65793",
        ),
    ],
)
def test_what_no_program_can_have_names_the_layer(make: Any, batch: int, target: str, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        nn.compile(make(), batch, target, cached=False)


def _doubled(layer: Layer, times: int) -> Layer:
    for _ in range(times):
        layer = nn.Add(layer, layer)
    return layer


def test_what_float32_does_not_hold_is_refused() -> None:
    norm = BatchNorm(FLAT, np.array([1, 1e300, 1, 1, 1]), *[np.zeros(5)] * 2, np.ones(5))
    with pytest.raises(InputError, match=r"BatchNorm of 5 channels .* not those of channel 1"):
        nn.compile(nn.Add(norm, norm), 1, "cpu")


def test_arrays_of_a_network_are_named_where_they_are_wrong() -> None:
    right = {
        name: zoo.RandomParameters(0).get(name, shape) for name, shape in zoo.parameter_shapes("mnist-mlp").items()
    }
    for name, value, message in (
        (
            "norm2.variance",
            -np.ones(1024),
            "norm2: the variance of BatchNorm must be positive, but of channel 0",
        ),
        (
            "linear3.weights",
            2 * np.ones((1024, 1024)),
            "linear3.weights: weights of Linear must be values of",
        ),
    ):
        with pytest.raises((InputError, EncodingError), match=message):
            zoo.network("mnist-mlp", zoo.GivenParameters({**right, name: value}))


MANY = Linear(Input((70000,)), np.full((1, 70000), 127), "i8")
WIDE = Sign(nn.Conv2d(Input((4, 4, 64)), np.ones((70, 1, 1, 64))))
DEEP = nn.Conv2d(Input((8, 8, 512)), np.full((2, 3, 3, 512), 127), "i8", padding=1)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Linear(Input((4,)), [[1, 1], [1]]), InputError, "weights of Linear must be an array of numbers"),  # type: ignore[arg-type]
        (lambda: Linear(Input((4,)), np.ones((0, 4))), ShapeError, r"must have the shape \(outputs, 4\), got \(0, 4\)"),
        (lambda: BatchNorm(FLAT, "a", *[np.ones(5)] * 3), InputError, "gamma of BatchNorm must be an array of numbers"),  # type: ignore[arg-type]
        (lambda: BatchNorm(FLAT, *[np.ones(5)] * 4, epsilon="x"), InputError, "epsilon of BatchNorm must be a number"),  # type: ignore[arg-type]
        (lambda: Quantise(FLAT, 3, "a"), InputError, "the scale of Quantise must be a positive number, got 'a'"),  # type: ignore[arg-type]
        (lambda: nn.Flatten(None), InputError, "Flatten follows a layer, got NoneType"),  # type: ignore[arg-type]
        (lambda: nn.Conv2d(IMAGES, np.ones((4, 3, 3, 2)), stride=1.5), ShapeError, "stride of Conv2d .* got 1.5"),  # type: ignore[arg-type]
        (lambda: nn.Conv2d(IMAGES, np.ones((4, 3, 3, 2)), padding=10**12), ShapeError, "padding of Conv2d must be"),
        (lambda: Linear(np.ones(4), np.ones((2, 4))), InputError, "Linear follows a layer, got ndarray"),  # type: ignore[arg-type]
        (lambda: BatchNorm(np.ones(4), *[np.ones(4)] * 4), InputError, "BatchNorm follows a layer, got ndarray"),  # type: ignore[arg-type]
        (lambda: Quantise(FLAT, True), InputError, "bits of Quantise must be from 1 to 8, got True"),
        (lambda: Linear(Input((4,)), np.zeros((2, 4))), EncodingError, "must be values of 'bipolar', but 0.0 is none"),
        (lambda: BatchNorm(FLAT, *[np.ones(5)] * 4, epsilon=float("nan")), InputError, "epsilon of BatchNorm must be"),
        (lambda: nn.compile(Input((4,)), 1, "cpu"), InputError, "a network has a Linear or Conv2d at least"),
    ],
)
def test_layers_look_at_what_they_are_given(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_the_reference_takes_what_the_network_takes() -> None:
    model = nn.compile(FLAT, 2, "cpu")
    with pytest.raises(ShapeError, match=r"inputs must have the shape \(2, 4\), got \(3, 4\)"):
        model.reference(np.zeros((3, 4), np.uint8))
    with pytest.raises(ShapeError, match="got no array"):
        model.reference([[1, 2, 3, 4]] * 2)  # type: ignore[arg-type]


def test_shortcuts_that_may_leave_float32_are_refused() -> None:
    sums = nn.Conv2d(CODES, np.ones((4, 1, 1, 4)))
    large = nn.BatchNorm(sums, np.full(4, 3e38), *np.zeros((2, 4)), np.ones(4))
    with pytest.raises(InputError, match=r"^numbers of BatchNorm.* may leave float32, in which other layers read them"):
        program_of(nn.Sign(nn.Add(nn.AvgPool2d(large, 1), large)))


def test_a_saved_network_of_normalised_images_takes_no_pixels(tmp_path: Any) -> None:
    network = nn.Linear(nn.Flatten(nn.Input((2, 2, 1), mean=0.5, std=0.25)), np.ones((3, 4)))
    nn.compile(network, 1, "cpu").save(tmp_path / "n.bitmlir")
    program = bitmlir.load(tmp_path / "n.bitmlir")
    assert np.asarray(program(np.zeros((1, 2, 2, 1), np.float32))).size == 3
    with pytest.raises(InputError, match="images must be of float32, got uint8: this program takes normalised images"):
        program(np.zeros((1, 2, 2, 1), np.uint8))
