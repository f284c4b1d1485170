"The package is exactly what the notebooks export, and the notebooks are clean, executed and small."
import ast
import filecmp
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from execnb.nbio import nb2str, read_nb
from nbdev.clean import clean_nb

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted(p for p in (ROOT/'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in p.parts)
LARGEST = 500_000  # bytes
UNSEEN = {'export', 'exporti', 'hide', 'slow', 'gpu', 'eval', 'default_exp'}  # directives of cells that need no output


def python_files(package): return {p.relative_to(package).as_posix() for p in package.rglob('*.py')}


def export_faults(package, exported):
    "How `package` differs from a fresh export, in words; empty when it does not"
    here, fresh = python_files(package), python_files(exported)
    same = lambda f: filecmp.cmp(package/f, exported/f, shallow=False)
    return ([f'{f}: no notebook exports it' for f in sorted(here-fresh)] + [f'{f}: missing' for f in sorted(fresh-here)]
        + [f'{f}: edited by hand, or not exported' for f in sorted(here & fresh) if not same(f)])


def directives(source): return set(re.findall(r'^#\s*\|\s*([\w-]+)', source, re.M))


def shows_something(source):
    "Does running this code surely print or display: it ends in a value, or prints, or shows images at its top level"
    if source.rstrip().endswith(';'): return False
    try: body = ast.parse(source).body
    except SyntaxError: return False  # a magic
    calls = [node.value for node in body if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)]
    if any(getattr(call.func, 'id', '') in ('print', 'display') for call in calls): return True
    last = body[-1] if body else None
    if not isinstance(last, ast.Expr): return False
    if isinstance(last.value, ast.Call): return getattr(last.value.func, 'id', '') == 'show'
    return not isinstance(last.value, ast.Constant)


def notebook_faults(path):
    "What is wrong with a notebook, in words; empty when nothing is"
    raw = json.loads(path.read_text(encoding='utf-8'))
    code = [(number, cell) for number, cell in enumerate(raw['cells']) if cell['cell_type'] == 'code']
    cells = [(number, ''.join(cell['source']), cell['outputs']) for number, cell in code]
    faults = []
    notebook = read_nb(path)
    before = nb2str(notebook)
    clean_nb(notebook, allowed_cell_metadata_keys=['tags'])
    if nb2str(notebook) != before: faults.append('not clean: run nbdev_clean')
    kernel, size = raw['metadata'].get('kernelspec', {}).get('name'), path.stat().st_size
    if kernel != 'python3': faults.append(f'kernel {kernel}, not python3')
    if size >= LARGEST: faults.append(f'{size:,} bytes, not under {LARGEST:,}')
    faults += [f'cell {n} stopped with an error' for n, _, outputs in cells
               if any(o['output_type'] == 'error' for o in outputs)]
    template = path.name.startswith('_')  # waits for papermill
    faults += [f'cell {n} was not executed' for n, source, outputs in cells
               if not template and not outputs and not directives(source) & UNSEEN and shows_something(source)]
    faults += [f'cell {n} shows warnings or logs' for n, _, outputs in cells
               if any(o.get('name') == 'stderr' for o in outputs)]
    faults += [f'cell {n} shows a figure only as text: nothing had loaded a backend' for n, _, outputs in cells
               if any(map(is_unseen_figure, outputs))]
    faults += [f'cell {n} holds injected parameters: they override what a reader sets above' for n, cell in code
               if 'injected-parameters' in cell['metadata'].get('tags', [])]
    texts = [(n, ''.join(c['source']).strip()) for n, c in enumerate(raw['cells']) if c['cell_type'] == 'markdown']
    in_code = {source.strip() for _, source, _ in cells}
    faults += [f'cell {n} is text, and says what a code cell says' for n, text in texts if text in in_code]
    faults += [f'cell {n} mixes imports with other code' for n, source, _ in cells
               if not directives(source) & {'eval', 'export', 'exporti'} and mixes_imports(source)]
    return faults


def is_unseen_figure(output):
    "An output that only says that there is a figure"
    data = output.get('data', {})
    seen = any(kind.startswith('image/') for kind in data)
    return ''.join(data.get('text/plain', '')).startswith('<Figure size') and not seen


def mixes_imports(source):
    "Imports, at any depth, beside other code: nbdev would run the whole cell when it builds the documentation"
    try: tree = ast.parse(source)
    except SyntaxError: return False  # a magic
    imports = ast.Import, ast.ImportFrom
    found = any(isinstance(node, imports) for node in ast.walk(tree))
    return found and not all(isinstance(node, imports) for node in tree.body)


@pytest.fixture(scope='session')
def exported(tmp_path_factory):
    "The package as the notebooks export it into an empty folder"
    work = tmp_path_factory.mktemp('export')
    shutil.copytree(ROOT/'nbs', work/'nbs', ignore=shutil.ignore_patterns('.ipynb_checkpoints'))
    shutil.copy(ROOT/'settings.ini', work)
    env = {k: v for k, v in os.environ.items() if k != 'IN_TEST'}
    export = 'from nbdev import nbdev_export; nbdev_export()'
    subprocess.run([sys.executable, '-c', export], cwd=work, env=env, check=True)
    return work/'synaug'


@pytest.fixture
def package(tmp_path, exported): return Path(shutil.copytree(exported, tmp_path/'synaug'))


def test_package_is_the_export(exported): assert export_faults(ROOT/'synaug', exported) == []


def test_stray_module_is_found(package, exported):
    (package/'stray.py').write_text('x = 1\n')
    assert export_faults(package, exported) == ['stray.py: no notebook exports it']


def test_missing_module_is_found(package, exported):
    (package/'errors.py').unlink()
    assert export_faults(package, exported) == ['errors.py: missing']


@pytest.mark.parametrize('file', ['data/images.py', '_modidx.py', '__init__.py'])
def test_edited_module_is_found(package, exported, file):
    with (package/file).open('a') as f: f.write('x = 1\n')
    assert export_faults(package, exported) == [f'{file}: edited by hand, or not exported']


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.relative_to(ROOT/'nbs').as_posix())
def test_notebook(path): assert notebook_faults(path) == []


def test_every_page_of_the_library_has_a_figure_or_a_result():
    bare = [p.name for p in NOTEBOOKS if 'library' in p.parts
            and not any(c.get('outputs') for c in json.loads(p.read_text(encoding='utf-8'))['cells'])]
    assert bare == []


def write(path, *cells, kernel='python3'):
    "A small clean notebook of `(source, outputs)` code cells"
    cells = [{'cell_type': 'code', 'execution_count': None, 'id': f'c{i}', 'metadata': {}, 'outputs': outputs,
              'source': source.splitlines(True)} for i, (source, outputs) in enumerate(cells)]
    metadata = {'kernelspec': {'display_name': kernel, 'language': 'python', 'name': kernel}}
    notebook = {'cells': cells, 'metadata': metadata, 'nbformat': 4, 'nbformat_minor': 5}
    path.write_text(nb2str(notebook), encoding='utf-8')
    return path


RESULT = {'output_type': 'execute_result', 'data': {'text/plain': ['2']}, 'execution_count': None, 'metadata': {}}
WARNING = {'output_type': 'stream', 'name': 'stderr', 'text': ['.venv/site-packages/x.py:1: UserWarning: old']}
FIGURE = RESULT | {'data': {'text/plain': ['<Figure size 90x90 with 1 Axes>']}}
ERROR = {'output_type': 'error', 'ename': 'E', 'evalue': 'e', 'traceback': []}

@pytest.mark.parametrize('cells, options, fault', [
    ([('1+1', [RESULT])], {}, None),
    ([('1+1', [])], {}, 'cell 0 was not executed'),
    ([('x = 1', []), ('print(x)', [])], {}, 'cell 1 was not executed'),
    ([('#| export\nx = 1\nx', [])], {}, None),
    ([('#| slow\n1+1', [])], {}, None),
    ([('assert True', [])], {}, None),
    ([('1/0', [ERROR])], {}, 'cell 0 stopped with an error'),
    ([('show(x)', [FIGURE])], {}, 'cell 0 shows a figure only as text'),
    ([('1+1', [WARNING, RESULT])], {}, 'cell 0 shows warnings or logs'),
    ([('import os\nx = 1', [])], {}, 'cell 0 mixes imports with other code'),
    ([('def f():\n    import os', [])], {}, 'cell 0 mixes imports with other code'),
    ([('#| export\ndef f():\n    import os', [])], {}, None),
    ([('import os\nfrom re import sub', [])], {}, None),
    ([('1+1', [])], {'name': '_template.ipynb'}, None),
    ([('1+1', [RESULT])], {'kernel': 'my-env'}, 'kernel my-env, not python3'),
    ([('1+1', [RESULT | {'execution_count': 7}])], {}, 'not clean: run nbdev_clean'),
    ([('1+1', [RESULT | {'data': {'text/plain': ['2'*LARGEST]}}])], {}, 'bytes, not under 500,000')])
def test_notebook_fault_is_found(tmp_path, cells, options, fault):
    path = write(tmp_path/options.get('name', 'n.ipynb'), *cells, kernel=options.get('kernel', 'python3'))
    found = notebook_faults(path)
    assert found == [] if fault is None else len(found) == 1 and fault in found[0]


def test_text_that_is_code_is_found(tmp_path):
    path = write(tmp_path/'n.ipynb', ('1+1', [RESULT]))
    notebook = json.loads(path.read_text())
    notebook['cells'].insert(0, dict(cell_type='markdown', id='m0', metadata={}, source=['1+1']))
    path.write_text(nb2str(notebook))
    assert notebook_faults(path) == ['cell 0 is text, and says what a code cell says']
