"""Keys of the bus, in the server's own spelling."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.adapters.nkeys import new_seed, public_key, seed_of, signature
from shared.domain.errors import KeyRefused

# The pair in the documentation of NATS.
SEED = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"
PUBLIC = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"


def test_the_pair_of_the_documentation_belongs_together() -> None:
    assert public_key(SEED) == PUBLIC
    assert public_key(f"\n{SEED}\n") == PUBLIC
    assert len(signature(SEED, "nonce")) == 88


@given(st.binary(min_size=32, max_size=32))
def test_every_seed_is_spelled_alike_and_has_a_public_key(raw: bytes) -> None:
    seed, public = seed_of(raw), public_key(seed_of(raw))
    assert (len(seed), seed[:2]) == (58, "SU")
    assert (len(public), public[0]) == (56, "U")


def test_no_two_seeds_are_the_same() -> None:
    assert len({new_seed() for _ in range(100)}) == 100


@given(st.integers(2, 57), st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"))
def test_a_seed_with_one_wrong_letter_is_refused(place: int, letter: str) -> None:
    wrong = SEED[:place] + letter + SEED[place + 1 :]
    if wrong != SEED and place < 57:  # of the last letter two bits say nothing
        with pytest.raises(KeyRefused):
            public_key(wrong)


@pytest.mark.parametrize(
    "text", ["", "SU", PUBLIC, SEED.lower(), SEED[:-1], SEED + "A", "SA" + SEED[2:], "é" * 58, "p@ss"]
)
def test_what_is_no_seed_is_refused_with_words_that_do_not_repeat_it(text: str) -> None:
    with pytest.raises(KeyRefused) as refused:
        public_key(text)
    assert len(text) < 5 or text not in str(refused.value)
