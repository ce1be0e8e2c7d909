"""The page of bad inputs says what the tests expect, and the corpus is as large and varied as it is meant to be."""

from bad_inputs_page import PAGE, SECTIONS, page


def test_the_page_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == page(), "run python tests/bad_inputs_page.py"


def test_every_input_has_a_name_of_its_own_and_says_what_is_expected():
    for inputs in SECTIONS.values():
        names = [bad.name for bad in inputs]
        assert len(set(names)) == len(names)
        for bad in inputs:
            assert (bad.error is None) != (bad.shape is None and bad.numbers is None), bad.name
