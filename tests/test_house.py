"The house: rooms stand on each other without circles, keep private things private, raise known mistakes, can be read"
import ast
import importlib.util
import json
import re
from pathlib import Path

import pytest
from synaug.errors import mistakes

ROOT = Path(__file__).parent.parent
PYTHON = [*(ROOT/'tests').glob('*.py'), *(ROOT/'docs').glob('*.py'), ROOT/'setup.py']
KEPT = {'.ipynb_checkpoints', 'results'}            # results are kept as they ran
SOURCES = sorted([*PYTHON, *(p for p in (ROOT/'nbs').rglob('*.ipynb') if not KEPT & set(p.parts))])
WIDEST = 120


def module(path):
    "A Python file as a module"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


house = module(ROOT/'docs'/'rooms.py')


# Rooms and arrows

def test_rooms_stand_on_each_other(): assert house.faults() == []


@pytest.mark.parametrize('files, fault', [
    ({'a.py': 'from .b import x', 'b.py': ''}, None),
    ({'a.py': '', 'b.py': 'from .a import x'}, 'b imports a: b does not stand on a'),
    ({'a.py': '', 'b.py': 'def f():\n    from synaug.a import x'}, 'b imports a: b does not stand on a'),
    ({'a.py': 'from . import b', 'b.py': ''}, None),
    ({'a.py': 'from .b import _x', 'b.py': ''}, 'a imports the private _x of b'),
    ({'a.py': '', 'c.py': ''}, 'c: no such wing'),
    ({'b/x.py': 'from .y import f', 'b/y.py': 'from ..b import x'}, 'a circle: b.x <- b.y <- b.x')])
def test_faults_of_the_house_are_found(tmp_path, files, fault):
    for name, source in files.items():
        path = tmp_path/'synaug'/name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    found = house.faults(tmp_path/'synaug', dict(b=(), a=('b',)))
    if fault and fault.startswith('a circle'): assert len(found) == 1 and found[0].startswith('a circle: ')
    else: assert found == ([fault] if fault else [])


def table_of_rooms():
    "The rooms that the front page lists: `wing`, or `wing/` with its rooms in the second column"
    cells = json.loads((ROOT/'nbs'/'index.ipynb').read_text(encoding='utf-8'))['cells']
    text = '\n'.join(''.join(cell['source']) for cell in cells if '| wing | rooms |' in ''.join(cell['source']))
    for line in text.splitlines():
        first, _, rest = line.strip('| ').partition('|')
        name = re.fullmatch(r'`(\w+)(/?)`', first.strip())
        if not name: continue
        if not name[2]: yield name[1]
        else: yield from (f'{name[1]}.{room}' for room in re.findall(r'`(\w+)`', rest.partition('|')[0]))


def test_the_front_page_lists_the_rooms_there_are(): assert sorted(table_of_rooms()) == sorted(house.rooms())


# Mistakes

def raised(file):
    "(line, name) of what a module raises by calling a class"
    for node in ast.walk(ast.parse(file.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name):
            yield node.lineno, node.exc.func.id


def test_nothing_is_just_a_mistake():
    "Every mistake is of a kind"
    found = [(room, *what) for room, file in house.rooms().items() for what in raised(file)]
    assert [f'{room}: line {line}' for room, line, name in found if name == 'SynaugError'] == []


def test_every_mistake_is_defined_in_one_room():
    def classes(file):
        return [node for node in ast.parse(file.read_text(encoding='utf-8')).body if isinstance(node, ast.ClassDef)]
    elsewhere = [f'{room}: {c.name}' for room, file in house.rooms().items() if room != 'errors' for c in classes(file)
                 if {getattr(base, 'id', '') for base in c.bases} & set(mistakes())]
    assert elsewhere == []


# Lines

def code_of(path):
    "(where, source) of the code in a file or notebook"
    if path.suffix == '.py': return [('', path.read_text(encoding='utf-8'))]
    cells = json.loads(path.read_text(encoding='utf-8'))['cells']
    return [(f'cell {i} ', ''.join(c['source'])) for i, c in enumerate(cells) if c['cell_type'] == 'code']


def long_lines(source):
    "Numbers of lines wider than `WIDEST` characters; what holds an address, or is a row of a table, may be"
    exempt = re.compile(r'https?://|^\s*(#\s*)?\|')
    return [n for n, line in enumerate(source.splitlines(), 1) if len(line) > WIDEST and not exempt.search(line)]


@pytest.mark.parametrize('path', SOURCES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_lines_can_be_read(path):
    assert [f'{where}line {n}' for where, source in code_of(path) for n in long_lines(source)] == []


def test_long_lines_are_found():
    assert long_lines('x = 1\n' + 'y'*121 + '\n' + 'z'*120) == [2]
    assert long_lines(f"see = 'https://example.org/{'a'*120}'\n| {'b'*120} |") == []

