"""The laws of terms, gates and position gradients hold in pretrained encoders."""

import dataclasses

import numpy as np
import pytest

import pretrained_by_hand as by_hand
from lrjax import InputError

pytest.importorskip("safetensors", reason="the extra `pretrained` is not installed")
pytest.importorskip("tokenizers", reason="the extra `pretrained` is not installed")

from lrjax import pretrained
from lrjax.pretrained import decompose, effects, gradient, readout, statistical

CAPTIONS = ["a red circle left of a blue square", "a cat above a dog", "a green triangle right of a dog"]
EXACT = dict(atol=2e-5, rtol=2e-5)  # float32 sums of the same numbers in another order


@pytest.fixture(scope="module", params=["clip", "siglip", "dinov2"])
def model(request, tmp_path_factory):
    return pretrained.load(by_hand.folder_of(tmp_path_factory.mktemp("weights") / request.param, request.param))


@pytest.fixture(scope="module")
def with_text(tmp_path_factory):
    return pretrained.load(by_hand.folder_of(tmp_path_factory.mktemp("weights") / "clip", "clip"))


@pytest.fixture(scope="module")
def images():
    return by_hand.inputs(text=False)[0]


@pytest.fixture(scope="module")
def eval_set(images):
    return effects.EvalSet(images, CAPTIONS, CAPTIONS[1:] + CAPTIONS[:1])


def layers(cache, encoder="vision"):
    return dict.fromkeys(name.split(".")[1] for name in cache if name.startswith(encoder) and name.endswith(".terms"))


@pytest.mark.slow
def test_terms_sum_to_scores_and_parts_to_the_embedding(model, images):
    given = [images[0]] if model.words is None else [images[0], CAPTIONS[0]]
    for one in given:
        embedding, cache = model.run_with_cache(one)
        encoder = "text" if isinstance(one, str) else "vision"
        assert len(layers(cache, encoder)) == getattr(model.config, encoder).depth
        for layer in layers(cache, encoder):
            scores, terms = cache[f"{encoder}.{layer}.scores"], cache[f"{encoder}.{layer}.terms"].sum("term")
            seen = np.isfinite(scores.values)  # what a causal mask hides has no score
            np.testing.assert_allclose(terms.values[seen], scores.values[seen], **EXACT)
            np.testing.assert_allclose(cache[f"{encoder}.{layer}.pattern"].sum("key"), 1, **EXACT)
        whole = cache[f"{encoder}.parts"].sum("origin").values
        np.testing.assert_allclose(whole / np.linalg.norm(whole), embedding, **EXACT)


def both_sides(model, images):
    """What each encoder of a model is given, and its config."""
    found = [("vision", images, model.config.vision)]
    return found if model.words is None else [*found, ("text", CAPTIONS, model.config.text)]


def test_errors_of_sums_are_those_of_float32_in_every_layer_model_encoders(model, images):
    for encoder, given, config in both_sides(model, images):
        found = decompose.sum_errors(model, given).to_dataframe()
        assert set(found["encoder"]) == {encoder} and len(found) == config.depth
        assert found[["scores", "values"]].to_numpy().max() < 2e-5


def test_shares_of_a_head_sum_to_one(model, images):
    for _, given, config in both_sides(model, images):
        found = decompose.decompose(model, given).to_dataframe()
        assert len(found) == config.depth * config.n_heads * 16
        sums = found.groupby(["layer", "head"])["share"].sum()
        np.testing.assert_allclose(sums, 1, **EXACT)
        of_origins = found.drop_duplicates(["layer", "head", "written"]).groupby(["layer", "head"])["written"].sum()
        np.testing.assert_allclose(of_origins, 1, **EXACT)


def test_shares_of_a_caption_are_of_the_scores_that_its_readout_sees(with_text):
    """From the cache, where what a causal mask hides has no score."""
    _, cache = with_text.run_with_cache(CAPTIONS[0])
    readout = int(with_text.readouts(with_text.words(CAPTIONS[:1]))[0])
    terms = cache["text.1.terms"].values[:, :, readout, : readout + 1]
    whole = cache["text.1.scores"].values[:, readout, : readout + 1]
    share = [[np.cov(term, row, bias=True)[0, 1] / row.var() for term, row in zip(of, whole, strict=True)] for of in terms]
    found = decompose.decompose(with_text, CAPTIONS[:1]).to_xarray()["share"].sel(layer="1", model="clip", encoder="text")
    np.testing.assert_allclose(found.sel(term=list(decompose.TERMS)).transpose("term", "head"), share, atol=1e-4)


@pytest.mark.slow
def test_gates_at_one_do_nothing_and_at_zero_leave_no_preference(model, images):
    untouched = model.embed_images(images)
    every = "+".join(name for name in decompose.TERMS)
    np.testing.assert_allclose(model.ablate(f"{every}=1").embed_images(images), untouched, **EXACT)
    _, cache = model.ablate(f"L1:{every}").run_with_cache(images[0])
    pattern = cache["vision.1.pattern"]
    np.testing.assert_allclose(pattern, 1 / pattern.sizes["key"], **EXACT)
    assert abs(model.ablate("EP+PP+MP+BP").embed_images(images) - untouched).max() > 1e-4


@pytest.mark.slow
def test_a_frozen_gate_of_values_has_an_effect_that_adds(model, images):
    """With patterns, scales and MLPs as they were, what is written is linear in the gates of values."""

    def written(*terms):
        changed = model
        for term in terms:
            changed = changed.ablate(term, frozen=True)
        return changed.run_with_cache(images[0])[1]["vision.parts"].sum("origin").values

    assert dataclasses.replace(model, frozen=True).embed_images(images) == pytest.approx(model.embed_images(images), abs=1e-6)
    one, other, both, none = written("L0:VE"), written("L0:VM", "L0:VP"), written("L0:VE", "L0:VM+VP"), written("VE=1")
    np.testing.assert_allclose(one + other - none, both, **EXACT)


def test_the_class_token_and_its_position_enter_as_their_sum(model, images):
    if not model.config.vision.has_cls:
        with pytest.raises(InputError, match="no class token"):
            model.regauge(1.0)
        return
    for share in (0.0, 1.0, 0.3):
        np.testing.assert_allclose(model.regauge(share).embed_images(images), model.embed_images(images), **EXACT)
    found = gradient.gauge(model, images).to_dataframe().set_index(["gauge", "layer", "head"])
    first = found.xs("0", level="layer")
    as_E, as_P = first.loc["E"], first.loc["P"]
    if model.config.kind == "dinov2":  # no LayerNorm before the first, whose bias has an origin of its own
        assert abs(as_E["slope_columns_PP"]).max() < 1e-5 and abs(as_P["slope_columns_EP"]).max() < 1e-5
    np.testing.assert_allclose(as_E["slope_columns"], as_P["slope_columns"], **EXACT)


@pytest.fixture(scope="module", params=[("clip", "vision"), ("clip", "text"), ("siglip", "text")], ids=" ".join)
def side(request, tmp_path_factory):
    """A model and one of its encoders. Texts are read at their end, causally, or at the last place whatever stands there."""
    kind, encoder = request.param
    return pretrained.load(by_hand.folder_of(tmp_path_factory.mktemp("weights") / kind, kind)), encoder


SOME_GATES = [(0, 1, "EP"), (1, 0, "VM"), (1, 1, "MM"), (0, 0, "VE"), (1, 0, "EE+PP")]


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [False, True])
def test_first_order_is_the_slope_of_the_exact_effect(side, eval_set, frozen):
    """Minus the finite difference of the margin around a gate of 1: of both encoders, recomputed and frozen."""
    model, encoder = side
    first = effects.first_order(model, eval_set, encoder, frozen)
    step = 0.02
    exact = effects.single_gates(model, eval_set, doses=(1 - step, 1 + step), gates=SOME_GATES, encoder=encoder, frozen=frozen)
    margin = exact.table["margin"].reshape(len(SOME_GATES), 2)
    slopes = (margin[:, 0] - margin[:, 1]) / (2 * step)
    np.testing.assert_allclose(effects.predicted(first, SOME_GATES), slopes, rtol=0.05, atol=3e-5)
    assert abs(slopes).max() > 1e-3 and set(first.table["frozen"].tolist()) == {frozen}


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [False, True])
def test_gates_as_one_program_are_gates_one_by_one(side, eval_set, frozen):
    model, encoder = side
    asked = dict(layers=[1], encoder=encoder, frozen=frozen)
    found = effects.single_gates(model, eval_set, ("EP", "VE"), (0.0, 0.5), **asked).to_dataframe()
    assert len(found) == 2 * 2 * 2
    untouched = effects.margins(model, eval_set)
    for row in found.itertuples():
        changed = model.ablate(f"{encoder}.L{row.layer}.h{row.head}:{row.term}={row.dose}", frozen=frozen)
        margin = effects.margins(changed, eval_set)
        assert row.margin == pytest.approx(margin.mean(), abs=2e-4)
        assert row.change == pytest.approx((margin - untouched).mean(), abs=2e-4)
        assert row.order == pytest.approx((margin > 0).mean())


@pytest.mark.slow
def test_what_is_frozen_in_a_model_is_frozen_in_its_effects(with_text, eval_set):
    """As if it were asked for: the model without gates, whose states stay."""
    frozen = dataclasses.replace(with_text, frozen=True)
    of_model, asked, anew = (
        (effects.first_order(m, eval_set, frozen=f), effects.single_gates(m, eval_set, gates=SOME_GATES, frozen=f))
        for m, f in ((frozen, False), (with_text, True), (with_text, False))
    )
    for found, same, other in zip(of_model, asked, anew, strict=True):
        measure = found.measures[0]
        np.testing.assert_array_equal(found.table[measure], same.table[measure])
        assert found.table["frozen"].all() and abs(found.table[measure] - other.table[measure]).max() > 1e-4


def test_the_strongest_gates_are_those_of_the_greatest_first_order_effect(with_text, eval_set):
    first = effects.first_order(with_text, eval_set, "text")
    gates = effects.strongest(first, 3)
    sizes = abs(effects.predicted(first, gates))
    assert sizes[0] == abs(first.table["effect"]).max() and (np.diff(sizes) <= 0).all()
    ((layer, head, terms),) = effects.strongest(first, 1, ["EP+PP"])
    whole = first.arrays["effect"][..., [effects.GATES.index("EP"), effects.GATES.index("PP")]].sum(-1)
    assert terms == "EP+PP" and abs(whole[layer, head]) == abs(whole).max()


def test_the_order_of_a_margin_is_a_half_at_a_tie():
    np.testing.assert_array_equal(effects.order_of(np.array([2.0, -2.0, 0.0, effects.TIE / 2])), [1, 0, 0.5, 0.5])


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (dict(encoder="image"), "encoder='image': does not exist"),
        (dict(layers=[2]), r"layers: 2 is out of range; expected 0\.\.1"),
        (dict(heads=["0"]), r"heads: '0' is out of range; expected 0\.\.1"),
        (dict(heads=[]), r"heads=\[\]: expected a list, at least one"),
        (dict(terms="EP"), "terms='EP': expected a list"),
        (dict(terms=["EX"]), "terms: term 'EX' does not exist"),
        (dict(doses=[]), r"doses=\[\]: expected a list, at least one"),
        (dict(doses=0.5), "doses=0.5: expected a list"),
        (dict(doses=["0"]), "doses: '0' is no finite number"),
        (dict(doses=[float("nan")]), "doses: nan is no finite number"),
        (dict(gates=[]), r"gates=\[\]: expected a list, at least one"),
        (dict(gates=[(0, 1)]), r"gates: \(0, 1\) is no gate; expected a layer, a head and terms"),
        (dict(gates=[(0, 5, "EP")]), "gates: head: 5 is out of range"),
    ],
    ids=str,
)
def test_gates_that_cannot_be_measured_are_refused(with_text, eval_set, asked, said):
    with pytest.raises(InputError, match=said):
        effects.single_gates(with_text, eval_set, **asked)


def test_an_evaluation_set_that_does_not_fit_is_refused(with_text, eval_set):
    with pytest.raises(InputError, match="3 pictures, 2 true and 3 swapped captions"):
        effects.margins(with_text, eval_set._replace(true=CAPTIONS[:2]))


def test_slopes_and_odd_shares_of_known_maps():
    across = np.tile(np.arange(5.0), (5, 1))
    np.testing.assert_allclose([gradient.slope(across, -1), gradient.slope(across, -2)], [4, 0], atol=1e-12)
    np.testing.assert_allclose([gradient.odd_share(across, -1), gradient.odd_share(across, -2)], [1, 0], atol=1e-12)
    both = gradient.measures_of(across + np.abs(across - 2))  # the odd part is across alone, about its mean
    assert both["odd_size_columns"] == pytest.approx(across.std()) and both["odd_size_rows"] == pytest.approx(0, abs=1e-12)
    hill = -((across - 2) ** 2)
    np.testing.assert_allclose([gradient.slope(hill, -1), gradient.odd_share(hill, -1)], [0, 0], atol=1e-12)


@pytest.mark.parametrize("n", [4, 5])
def test_what_shuffled_maps_have_on_average(n):
    """2,000 shuffles: the mean has a standard error of about 2 % of what is compared."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=n * n)
    shuffled = np.stack([rng.permutation(values) for _ in range(2000)]).reshape(-1, n, n)
    assert gradient.slope(shuffled, -1).std() == pytest.approx(gradient.slope_when_shuffled(shuffled[0], -1), rel=0.1)
    assert gradient.odd_share(shuffled, -1).mean() == pytest.approx(gradient.odd_when_shuffled(n), rel=0.05)


def test_exchanged_position_rows_mirror_every_map_of_a_blank_picture(model):
    """On a blank picture patches differ by their position alone, so the whole encoder is mirrored."""
    blank = np.full((1, 3, 24, 24), 0.3, np.float32)
    own = gradient.gradient(model, blank)
    other = gradient.gradient(gradient.exchanged(model, "columns"), blank)
    for name in own.arrays:
        np.testing.assert_allclose(other.arrays[name], own.arrays[name][..., ::-1], **EXACT)
    again = gradient.exchanged(gradient.exchanged(model, "rows"), "rows")
    np.testing.assert_array_equal(again.params.vision.P, model.params.vision.P)
    with pytest.raises(InputError, match="how='left'"):
        gradient.exchanged(model, "left")


def test_the_statistical_part_is_the_position_part_where_pictures_are_blank(model):
    """In layer 0 a blank picture's patches differ by P alone, so all of the scores' variation over patches is of position. SigLIP's
    row there is a mean over patches.
    """
    blank = np.full((1, 3, 24, 24), 0.3, np.float32)
    found = gradient.gradient(model, blank)
    _, cache = model.run_with_cache(blank[0])
    scores = cache["vision.0.scores"].values
    first = int(model.config.vision.has_cls)
    row = scores[:, 0, 1:] if first else scores.mean(1)
    grid = model.config.vision.grid
    statistical = found.arrays["statistical_maps"][0].reshape(len(row), grid * grid)
    np.testing.assert_allclose(statistical, row - row.mean(1, keepdims=True), **EXACT)


def test_exchanged_position_rows_are_exchanged_patches(with_text, images):
    """The causal test: no patch knows its place but by its position row. So a picture with the rows of left and right exchanged is
    the picture whose patches are exchanged, each patch as it is: left becomes right.
    """
    size = with_text.config.vision.patch_size
    patches = images.reshape(*images.shape[:3], -1, size)[:, :, :, ::-1].reshape(images.shape)
    found = gradient.exchanged(with_text, "columns").embed_images(images)
    np.testing.assert_allclose(found, with_text.embed_images(np.ascontiguousarray(patches)), **EXACT)
    assert abs(found - with_text.embed_images(images)).max() > 1e-3


def test_statistical_parts_sum_to_keys_and_their_shares_to_one(model, images):
    query, keys = (np.stack(a) for a in zip(*readout.observed_of(model, images, statistical._query_and_keys), strict=True))
    parts = statistical.key_parts(keys)
    whole = sum(np.broadcast_to(part, keys.shape) for part in parts.values())
    np.testing.assert_allclose(whole, keys - keys.mean((0, 2), keepdims=True), atol=1e-5)
    table = statistical.statistical(model, images).table
    for names in ([f"keys_{name}" for name in statistical.KEYS], [f"scores_{name}" for name in statistical.SCORES]):
        np.testing.assert_allclose(sum(table[name] for name in names), 1, atol=1e-5)
    scores = np.einsum("nlhk,nlthk->nlht", query, keys)  # the definition of a share: Cov(part, score) / Var(score), over places
    scores -= scores.mean(-1, keepdims=True)
    part = np.einsum("lhk,lthk->lht", query.mean(0), parts["position"][0])
    share = (scores * part).mean((0, 3)) / (scores**2).mean((0, 3))
    np.testing.assert_allclose(table["scores_mean_position"], share.ravel(), atol=1e-4)
    with pytest.raises(InputError, match="expected two or more"):
        statistical.statistical(model, images[:1])


def test_statistical_parts_of_known_keys():
    """Keys that depend on the place alone, on the picture alone, or on both as independent noise."""
    rng = np.random.default_rng(0)
    of_place, of_picture = rng.normal(size=(1, 1, 6, 1, 2)), rng.normal(size=(5, 1, 1, 1, 2))
    for keys, name in ((np.repeat(of_place, 5, 0), "position"), (np.repeat(of_picture, 6, 2), "image")):
        parts = statistical.key_parts(keys)
        assert all((abs(part).max() > 0.1) == (key == name) for key, part in parts.items())
    parts = statistical.key_parts(of_place + of_picture)
    np.testing.assert_allclose(parts["position"], of_place - of_place.mean(2, keepdims=True), atol=1e-12)
    np.testing.assert_allclose(parts["image"], of_picture - of_picture.mean(0, keepdims=True), atol=1e-12)
    np.testing.assert_allclose(parts["rest"], 0, atol=1e-12)


def test_results_are_tables_summaries_and_figures(model, images):
    found = gradient.gradient(model, images)
    frame = found.to_dataframe()
    assert len(frame) == model.config.vision.depth * model.config.vision.n_heads
    assert set(found.to_xarray().dims) == {"model", "layer", "head"}
    assert len(found.summary()) == model.config.vision.depth and found.plot().axes
    assert "slope_columns" in repr(found)


def test_heads_that_lean_are_named_by_the_side_to_which_they_do(model, images):
    """The steepest two of each side, as far as there are so many."""
    found = gradient.gradient(model, images)
    leaning, slope = gradient.leaning(found, 2), found.table["slope_columns"]
    left, right = np.sort(slope[slope < 0])[:2], np.sort(slope[slope > 0])[::-1][:2]
    assert list(leaning["direction"]) == ["left"] * len(left) + ["right"] * len(right)
    np.testing.assert_array_equal(leaning["slope_columns"], [*left, *right])
