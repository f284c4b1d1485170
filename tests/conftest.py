"Tests marked slow run with `pytest tests --slow` (`make test-slow`)"
import pytest

LONGEST = 'test_histology', 'test_study', 'test_docs', 'test_generators', 'test_replicate'      # begin with these


def pytest_addoption(parser): parser.addoption('--slow', action='store_true', help='run the slow tests too')


def pytest_configure(config): config.addinivalue_line('markers', 'slow: minutes rather than seconds; needs --slow')


def pytest_collection_modifyitems(config, items):
    "Longest files first, so that no process is left with one of them at the end; slow tests only where asked for"
    files = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: files.get(item.path.stem, len(files)))
    if config.getoption('--slow'): return
    for item in items:
        if 'slow' in item.keywords: item.add_marker(pytest.mark.skip(reason='slow; run with --slow'))
