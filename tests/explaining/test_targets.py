"""What cannot be permuted is refused by name."""

import pytest

from interformer_rec.errors import InputError
from interformer_rec.explaining.targets import require_impressions
from tests.data.request_samples import of_impressions, of_requests


def test_rows_that_are_requests_are_refused():
    require_impressions(of_impressions())
    with pytest.raises(InputError, match=r"features\.request makes a row several candidates'"):
        require_impressions(of_requests())
