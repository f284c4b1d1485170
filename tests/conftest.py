"Tests marked slow run with `pytest tests --slow` (`make test-slow`)"
import pytest


def pytest_addoption(parser): parser.addoption('--slow', action='store_true', help='run the slow tests too')


def pytest_configure(config): config.addinivalue_line('markers', 'slow: minutes rather than seconds; needs --slow')


def pytest_collection_modifyitems(config, items):
    if config.getoption('--slow'): return
    for item in items:
        if 'slow' in item.keywords: item.add_marker(pytest.mark.skip(reason='slow; run with --slow'))
