"""Places are let in no more exactly than the settings say."""

from __future__ import annotations

import pytest

from producers.location import coarsened


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("Berlin", "Berlin"),
        ("Portland, OR", "Portland, OR"),
        ("東京", "東京"),
        ("Turmstr. 5, Moabit, 10551 Berlin, Berlin, Germany", "Berlin, Germany"),
        ("221B Baker Street", None),
        ("New York, NY 10001", "New York"),
        ("52.520008,13.404954", "52.5,13.4"),
        ("geo:-33.8688, 151.2093", "-33.9,151.2"),
        ("203.0.113.9", None),
        ("2001:db8::1", None),
        ("[fe80::1%eth0]", None),
        ("Berlin, 203.0.113.9", "Berlin"),
        (" , ", None),
    ],
)
def test_a_city_at_most(told: str, kept: str | None) -> None:
    """Streets, numbers, postal codes and addresses of the network go; coordinates keep 11 km."""
    assert coarsened(told, "city") == kept


def test_other_precisions() -> None:
    """Nothing at all, or what the client tells; an address of the network never."""
    assert coarsened("Turmstr. 5, Berlin", "none") is None
    assert coarsened("Turmstr. 5, Berlin", "told") == "Turmstr. 5, Berlin"
    assert coarsened("203.0.113.9", "told") is None
