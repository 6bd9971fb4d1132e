"""What a model is asked: captions that are true, captions that are false, and the candidates."""

import jax
import numpy as np
import pytest

from tokens_read import HELD_OUT, N, names, says, sets_of_several


@pytest.mark.slow
def test_captions_are_numbered_and_exist_where_all_their_labels_do(world):
    assert len(world.sentences) == len(world.captions.exists) == world.captions.names.shape[1]
    for claims, exists, named in zip(world.sentences, world.captions.exists, world.captions.names.T.tolist(), strict=True):
        mentions = [claims[0][0], *(b for _, word, b in claims if word != "in")]
        assert set(named) == set(mentions)
        assert exists == (max(mentions) < HELD_OUT + N and len(set(mentions)) == len(mentions))
    existing = [str(claims) for claims, exists in zip(world.sentences, world.captions.exists, strict=True) if exists]
    assert len(set(existing)) == len(existing)


def test_captions_of_a_question_are_true_exactly_where_they_hold(world):
    for name in sets_of_several(world):
        for boxes, _, true, _, is_true in world.among(name):
            assert [says(world.sentences[number], boxes) for number in true] == is_true.tolist() and is_true.any()


def test_wrong_captions_of_a_question_are_false_and_of_the_same_labels(world):
    for name in sets_of_several(world):
        for boxes, _, true, hard_negatives, _ in world.among(name):
            for number, others in zip(true, hard_negatives.T, strict=True):
                assert len(set(others.tolist())) == len(others)
                for other in others:
                    assert not says(world.sentences[other], boxes)
                    assert names(world.sentences[other]) == names(world.sentences[number]) <= set(boxes)


def test_one_object_is_asked_for_by_its_number(world):
    for boxes, _, true, hard_negatives, is_true in world.among("single"):
        assert [*boxes] == [*set(true.tolist())] == [*set(hard_negatives.ravel().tolist())] and is_true.tolist() == [True] + [
            False
        ] * (len(is_true) - 1)


def test_all_captions_of_questions_exist_among_the_candidates(world):
    for asked in world.asked.values():
        exists, used = world.captions.exists[slice(*asked.candidates)], asked.weight > 0
        for numbers in (asked.true, asked.hard_negatives):
            assert numbers.min() >= 0 and numbers.max() < len(exists)
            assert exists[numbers[..., used]].all()


def test_candidates_of_a_set_are_the_captions_that_are_true_of_some_image(world):
    """Of unseen pairs and chains exactly those of the images that are asked; a sample of seen ones has the same as all."""
    for name, asked in world.asked.items():
        among = slice(*asked.candidates)
        named = world.captions.names[:, among]
        in_set = np.asarray(world.captions.exists[among] & world.task.of_set(name, named))
        true = np.zeros(len(in_set), bool)
        true[np.asarray(asked.true)[np.asarray(asked.is_true & (asked.weight > 0)[None])]] = True
        assert not (true & ~in_set).any(), "the caption of an image is a candidate"
        if not name.startswith("seen"):
            np.testing.assert_array_equal(in_set, true)
        else:
            labels = {frozenset(range(HELD_OUT, HELD_OUT + N))}
            several = [len(names(claims)) > 1 and names(claims) <= set(*labels) for claims in world.sentences[among]]
            np.testing.assert_array_equal(in_set, several & np.asarray(world.captions.exists[among]))


def test_questions_name_the_labels_that_are_seen(world):
    for asked in world.asked.values():
        used = np.nonzero(asked.weight > 0)[0][::11]
        seen = world.seen(jax.tree.map(lambda x: x[:, used], asked.images))
        assert [set(labels) for labels in asked.labels[:, used].T.tolist()] == [set(boxes) for boxes in seen]
