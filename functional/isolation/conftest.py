"""Two deployments are enough here: one with a side-store alone, one with a broker and MongoDB."""

import pytest

#: Unless --deployment says otherwise.
DEPLOYMENTS_HERE = ("loopback+sqlite", "quorum+mongodb")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--deployment"):
        return
    kept, left_out = [], []
    for item in items:
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        here = item.path.parent.name == "isolation" and "deployment" in parameters
        (left_out if here and parameters["deployment"] not in DEPLOYMENTS_HERE else kept).append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept
