"""A gateway that serves all versions of the API, for the tests of this folder."""

from collections.abc import Callable, Iterator

import pytest

from functional.deployments import Deployment
from functional.installed import require
from functional.services.gateway import Gateway, Options, merge

#: As an operator writes it.
ALL_VERSIONS: Options = {"DEFAULT": {"enable_deprecated_api_versions": ["1", "1.1"]}}


@pytest.fixture(scope="session")
def gateway(deployment: Deployment, make_options: Callable[[str], Options]) -> Iterator[Gateway]:
    """The running gateway of the deployment under test, with the older versions."""
    made = merge(make_options(f"{deployment.database}_older"), ALL_VERSIONS)
    with require(lambda: Gateway(made)) as service:
        yield service
