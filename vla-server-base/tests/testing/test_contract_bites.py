"""An adapter that breaks the contract fails the contract test about it."""

import itertools
from types import MappingProxyType

import numpy as np
import pytest

from vla_server_base.testing import EchoAdapter
from vla_server_base.testing.contract import AdapterContract


class Unsteady(EchoAdapter):
    """Gives another answer to the same seed."""

    def __init__(self):
        self._counter = itertools.count()

    def predict(self, batch):
        return [chunks + next(self._counter) for chunks in super().predict(batch)]


class Blind(EchoAdapter):
    """Does not look at images."""

    def _colours(self, observation):
        return np.zeros((len(self.cameras), 3))


class BatchDependent(EchoAdapter):
    """Gives another answer in a larger batch."""

    def predict(self, batch):
        return [chunks + len(batch) for chunks in super().predict(batch)]


class SampleDependent(EchoAdapter):
    """Draws another first sample where more are drawn."""

    def predict(self, batch):
        return [chunks + len(chunks) for chunks in super().predict(batch)]


class NotFinite(EchoAdapter):
    """Predicts NaN."""

    def predict(self, batch):
        return [np.full_like(chunks, np.nan) for chunks in super().predict(batch)]


class InPlace(EchoAdapter):
    """Writes into the images that it gets."""

    def preprocess_observation(self, window, dataset=None):
        for image in window.observations[-1].images.values():
            image[:] = 0
        return super().preprocess_observation(window, dataset)


class Cold(EchoAdapter):
    """Warms nothing up."""

    def warm_up_inputs(self):
        return ()

    def background_warm_up_inputs(self):
        return ()


class TooFewNames(EchoAdapter):
    """Names two of the three numbers of its state."""

    changes = MappingProxyType({"proprio_names": ("x", "y")})


class NeedsBothCameras(EchoAdapter):
    """Fails without a camera that its spec does not require."""

    def preprocess_observation(self, window, dataset=None):
        assert all("wrist" in observation.images for observation in window.observations)
        return super().preprocess_observation(window, dataset)


BROKEN = [
    (TooFewNames, AdapterContract.test_the_spec_holds_together),
    (NeedsBothCameras, AdapterContract.test_every_allowed_set_of_cameras_is_taken),
    (Unsteady, AdapterContract.test_the_same_seed_gives_the_same_answer),
    (Blind, AdapterContract.test_the_images_matter),
    (BatchDependent, AdapterContract.test_the_other_requests_of_a_batch_do_not_matter),
    (SampleDependent, AdapterContract.test_the_first_sample_does_not_depend_on_how_many_are_drawn),
    (NotFinite, AdapterContract.test_each_input_gets_its_chunks),
    (InPlace, AdapterContract.test_images_of_any_size_are_accepted_and_not_changed),
    (Cold, AdapterContract.test_the_warm_up_covers_every_signature_a_request_can_have),
]


@pytest.mark.parametrize(("adapter", "contract_test"), BROKEN, ids=[adapter.__name__ for adapter, _ in BROKEN])
def test_a_broken_adapter_fails(adapter: type[EchoAdapter], contract_test):
    contract_test(AdapterContract(), EchoAdapter())
    with pytest.raises(AssertionError):
        contract_test(AdapterContract(), adapter())
