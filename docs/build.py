"""Build the documentation site from the notebooks: `python docs/build.py [OUT]`; everything happens offline.

nbdev processes the notebooks (directives, API entries, links), this file turns the result into pages Sphinx can read,
and Sphinx writes the site, every warning being an error. The listing of `nbs/` is the table of contents. Reports look
as they do where they were written: they bring their style sheet. `docs/gallery.py` makes two pages that no notebook is:
the gallery of results and the help of the command line.
"""
import ast
import json
import os
import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from functools import cache
from html import unescape
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import fill

import nbformat
import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT/'docs')]
import gallery  # noqa: E402 (after the path of this checkout)

SECTIONS = 'guides', 'results', 'evidence', 'experiments', 'library'
FIRST = 'start', 'play', 'your_images', 'reading_a_report', 'labels_and_replicates', 'what_would_help'  # of the guides
SHORT = {               # page -> its title in the contents, where its own is a sentence
    'results/hpa_cells': 'HPA cells',
    'results/histology_pretraining': 'Colorectal nuclei (paper 2)',
    'results/organ_on_chip': 'Blood cells (paper 3)',
    'results/protein_localization': 'HPA cells (paper 1)',
    'results/quick': 'Simulated cells',
    'results/your_images': '300 blood cells, all labels',
    'results/pretrained': 'Blood cells, ImageNet weights',
    'results/made_elsewhere': 'Blood cells, images made elsewhere',
    'results/search_blood_cells': 'Blood cells, a search',
    'results/search_crc_nuclei': 'Colorectal nuclei, a search',
    'results/search_hpa_cells': 'HPA cells, a search',
    'results/search_hpa_cells_5': 'HPA cells, five labels, a search',
    'results/search_simulate': 'Simulated cells, a search',
    'results/search_sperm_heads': 'Sperm heads, a search',
    'results/why_not': 'Simulated cells, why not',
    'results/generator_budget': 'Simulated cells, five generators'}
WINGS = 'data', 'generators', 'classifiers', 'audits', 'verdicts', 'plots', 'study'


def settings():
    "The project's settings, as a dict"
    config = ConfigParser(delimiters=['='])
    config.read(ROOT/'settings.ini', encoding='utf-8')
    return config['DEFAULT']


def split_first_cell(path):
    "Put what follows title and description into a cell of its own: nbdev keeps only these two of a first cell"
    notebook = json.loads(path.read_text(encoding='utf-8'))
    first = notebook['cells'][0]
    head = re.match(r'# .*\n?(?:\s*(?:>|- [\w-]+:).*\n?)*', text(first))
    rest = text(first)[head.end():] if head else ''
    if first['cell_type'] == 'markdown' and rest.strip():
        first['source'] = head[0]
        notebook['cells'].insert(1, markdown(rest.strip()) | {'id': 'introduction'})
        path.write_text(json.dumps(notebook), encoding='utf-8')


def process(work):
    "Let nbdev process a copy of the notebooks, in a fresh interpreter: this checkout's package is the one documented"
    for folder in ('nbs', settings()['lib_path']):
        shutil.copytree(ROOT/folder, work/folder, ignore=shutil.ignore_patterns('.ipynb_checkpoints', '__pycache__'))
    shutil.copy(ROOT/'settings.ini', work)
    for page in pages(work/'nbs'): split_first_cell(work/'nbs'/page)
    env = {k: v for k, v in os.environ.items() if k != 'IN_TEST'} | {'PYTHONPATH': str(work)}
    code = 'from nbdev.serve import proc_nbs; proc_nbs(n_workers=0)'  # nbdev's command line tool would install Quarto
    subprocess.run([sys.executable, '-c', f'if __name__ == "__main__": {code}'], cwd=work, env=env, check=True)
    return work/'_proc'


def pages(folder):
    "The notebooks of a folder and its subfolders, the front page first"
    found = [p.relative_to(folder) for p in folder.rglob('*.ipynb')]
    return sorted((p for p in found if not any(part[0] in '._' for part in p.parts)), key=lambda p: (len(p.parts), p))


def text(cell): return ''.join(cell['source'])


def markdown(source): return {'cell_type': 'markdown', 'metadata': {}, 'source': source}


def directives(source):
    "Split the leading `#|` lines of a code cell off: (dict, rest)"
    lines, found = source.splitlines(True), {}
    while lines and (match := re.match(r'#\s*\|\s*([\w-]+):?\s*(.*)', lines[0])):
        found[match[1]] = match[2].strip()
        lines.pop(0)
    return found, ''.join(lines)


def front_matter(source):
    "Title and description of a page, which nbdev moved into YAML"
    found = yaml.safe_load(source.strip().strip('-'))
    title = f"# {found.get('title', '')}"
    return f"{title}\n\n{{.lead}}\n{found['description']}" if 'description' in found else title


def label(page, name):
    "The name of an API entry's target, also its anchor in the page; anchors know no case, so classes are marked"
    module = '-'.join(re.sub(r'^[0-9]+[a-zA-Z0-9]*_', '', part) for part in page.with_suffix('').parts[1:])
    kind = 'class-' if name[0].isupper() else ''
    return re.sub(r'[\W_]+', '-', f'{module}-{kind}{name}').strip('-').lower()


def entries(notebook, page):
    "`((page, name in lower case), target)` of a page's API entries"
    for cell in notebook['cells']:
        for name in re.findall(r'^#{2,4} (\S+)$', shown(cell), re.M): yield (page, name.lower()), label(page, name)


def shown(cell):
    "The markdown that a `show_doc` cell printed, else nothing"
    if cell['cell_type'] != 'code' or directives(text(cell))[0].get('output') != 'asis': return ''
    return ''.join(''.join(output.get('data', {}).get('text/markdown', '')) for output in cell['outputs'])


@cache
def parsed(file):
    "The source of a module and its syntax tree"
    source = file.read_text(encoding='utf-8')
    return source, ast.parse(source)


def definition(file, name):
    "The syntax tree node and the source of `name` (`f`, `C`, or `C.method`) in a module; (None, '') if it is not there"
    source, node = parsed(file)
    for part in name.split('.'):
        node = next((n for n in getattr(node, 'body', []) if getattr(n, 'name', None) == part), None)
    if node is None: return None, ''
    first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
    return node, '\n'.join(source.splitlines()[first-1:node.end_lineno])


def in_source_order(docs):
    "API entries of one cell, which nbdev shows last first, in the order of the module"
    line = lambda doc: int(match[1]) if (match := re.search(r'\.py#L(\d+)\)', doc)) else 0
    return sorted(docs, key=line)


def parameters(node, source):
    "`(name, default, what)` of the parameters of a function that have a comment on their line"
    args = node.args
    named = [*args.posonlyargs, *args.args]
    defaults = [None]*(len(named) - len(args.defaults)) + args.defaults
    pairs = [*zip(named, defaults), *zip(args.kwonlyargs, args.kw_defaults)]
    lines, first = source.splitlines(), min([node.lineno, *(d.lineno for d in node.decorator_list)])
    for arg, default in pairs:
        comment = re.search(r'#\s*(.+)$', lines[arg.lineno - first])
        if comment: yield arg.arg, '' if default is None else ast.unparse(default), comment[1]


def stars_kept(text):
    "Text in which a star is a star; code is left alone"
    return re.sub(r'(`[^`]*`)|(?<!\\)\*', lambda found: found[1] or r'\*', text)


def in_table(text): return stars_kept(text).replace('|', r'\|')


def signature(node, name, source):
    "A function's signature as one block of code, and below it a table of its parameters; '' for one without comments"
    known = list(parameters(node, source)) if isinstance(node, ast.FunctionDef) else []
    if not known: return ''
    whole = fill(f'{name}({ast.unparse(node.args)})', 88, subsequent_indent='    ', break_long_words=False)
    rows = [f'| `{arg}` | {f"`{default}`" if default else ""} | {in_table(what)} |' for arg, default, what in known]
    return '\n'.join([f'```python\n{whole}\n```', '', '| parameter | default | |', '|---|---|---|', *rows])


def plain_docstring(doc):
    "An API entry whose docstring is text: nbdev sets its first line in italics, and a star in it would end them"
    return re.sub(r'^\*(.+)\*$', lambda found: stars_kept(found[1]), doc, count=1, flags=re.M)


def api_entry(doc, page):
    "An API entry as cells: target, heading, signature, description, and the source folded away"
    doc = re.sub(r'^---\s*\n', '', doc)
    link = re.search(r'^\[source\]\(\S*?/blob/[^/]+/([\w/]+\.py)#L\d+\)\{.*?\}\s*\n', doc, re.M)
    heading = re.search(r'^(#{2,4}) (\S+)$', doc, re.M)
    if not heading: return [markdown(doc)]
    node, source = definition(ROOT/link[1], heading[2]) if link else (None, '')
    if link: doc = doc.replace(link[0], '')
    if isinstance(node, ast.ClassDef): doc = doc.replace(f'\ndef {heading[2]}(', f'\nclass {heading[2]}(')
    doc = doc.replace(heading[0], f'({label(page, heading[2])})=\n{heading[1]} `{heading[2]}`')
    doc = plain_docstring(doc)
    table = signature(node, heading[2], source) if node is not None else ''
    if table: doc = re.sub(r'```python\n.*?\n```', lambda _: table, doc, count=1, flags=re.S)
    cells = [markdown(doc)]
    if source: cells.append({'cell_type': 'code', 'metadata': {'tags': ['hide-input', 'api-source']}, 'outputs': [],
                             'execution_count': None, 'source': source})
    return cells


def local_links(source, host, names, targets):
    "nbdev's absolute links to API entries, as links within the site"
    def local(match):
        page = names.get(match[1])
        if page is None: return match[0]
        return f'#{target}' if (target := targets.get((page, match[2]))) else f'/{page.as_posix()}'
    return re.sub(re.escape(host)+r'/([\w./-]+)\.html(?:#([\w.-]*))?', local, source)


def room_links(source, names):
    "Names of rooms such as `generators.pixel` as links to their pages"
    def link(found):
        page = names.get(f'library/{found[1]}/{found[2]}')
        return found[0] if page is None else f'[`{found[1]}.{found[2]}`](/{page.as_posix()})'
    return re.sub(r'(?<![\[`\w])`(\w+)\.(\w+)`(?![\]`])', link, source)


def callouts(source):
    "Quarto's callouts as MyST's admonitions"
    return re.sub(r'^:::\s*\{\.callout-(\w+)[^}]*\}', r':::{\1}', source, flags=re.M)


def displayed(source):
    "Blank lines around displayed formulas, which MyST, unlike Jupyter, needs"
    return re.sub(r'^\$\$(.+?)\$\$[ ]*$', r'\n$$\1$$\n', source, flags=re.M | re.S)


def only_asserts(source):
    "Whether a cell checks and shows nothing: most of its statements are assertions"
    try: body = ast.parse(source).body
    except SyntaxError: return False                # a magic
    def checks(node):
        called = getattr(getattr(getattr(node, 'value', None), 'func', None), 'id', '')
        return isinstance(node, ast.Assert) or called.startswith('test_')
    return bool(body) and sum(map(checks, body)) > len(body)/2


def code_cell(cell):
    "A code cell with its directives turned into tags and a figure caption; one that only checks is folded"
    found, cell['source'] = directives(text(cell))
    tags = cell['metadata'].setdefault('tags', [])
    if only_asserts(cell['source']): tags.append('hide-input')
    if found.get('echo') == 'false': tags.append('remove-input')
    if found.get('output') == 'false': tags.append('remove-output')
    if found.get('code-fold') == 'true': tags.append('hide-input')
    if 'fig-cap' in found: cell['metadata']['mystnb'] = {'figure': {'caption': found['fig-cap'].strip('\'"')}}
    return cell


def page_cell(cell):
    "Any cell but an API entry"
    if cell['cell_type'] == 'raw': return markdown(front_matter(text(cell)))
    return markdown(callouts(text(cell))) if cell['cell_type'] == 'markdown' else code_cell(cell)


def convert(notebook, page, host, names, targets):
    "A processed notebook as the cells of a page"
    cells = []
    for is_api, group in groupby(notebook['cells'], lambda cell: bool(shown(cell))):
        if is_api: cells += [entry for doc in in_source_order(map(shown, group)) for entry in api_entry(doc, page)]
        else: cells += [page_cell(cell) for cell in group if 'AUTOGENERATED' not in text(cell)]
    for number, cell in enumerate(cells):
        cell['id'] = f'cell{number}'
        if cell['cell_type'] != 'markdown': continue
        cell['source'] = room_links(local_links(displayed(cell['source']), host, names, targets), names)
    return notebook | {'cells': cells}


def raw(html):
    "HTML as a page takes it over"
    return markdown(f'`````{{raw}} html\n{html}\n`````')


def report_page(notebook, title):
    "A committed report as the cells of a page: real headings for the contents, every section but the first two folded"
    from synaug.study.pages import always_seen, blocks
    head = re.match(r'# .*\n+(?:> (.*))?', title)
    cells, top, section = [markdown(title.split('\n')[0] + (f'\n\n{{.lead}}\n{head[1]}' if head[1] else ''))], [], None
    def close():
        if top: cells.append(raw('\n'.join(top)))
        top.clear()
    for block in blocks(notebook):
        heading = re.match(r'\s*<h2 id="[^"]*">(.*?)</h2>(.*)', block, re.S)
        if heading is None:
            top.append(re.sub(r'<h1.*?</h1>', '', block, flags=re.S))
            continue
        if section: top.append('</details>')
        close()
        section = not always_seen(block)
        cells.append(markdown(f'## {unescape(heading[1])}'))
        top.append('<details class="sy-fold"><summary>Show</summary>'*section + heading[2])
    if section: top.append('</details>')
    close()
    return cells


def toctree(listing):
    "One hidden table of contents per folder of pages; the wings of the library from the ground up"
    folders = {p.parent.as_posix() for p in listing if len(p.parts) > 1}
    known = [*SECTIONS, *(f'library/{wing}' for wing in WINGS)]
    def block(folder):
        members = [p.with_suffix('').as_posix() for p in listing if p.parent.as_posix() == folder]
        members.sort(key=lambda page: FIRST.index(Path(page).name) if Path(page).name in FIRST else len(FIRST))
        if folder == 'results': members.insert(0, 'results/gallery')
        if folder == 'guides': members.append('guides/commands')
        lines = [f'{SHORT[page]} <{page}>' if page in SHORT else page for page in members]
        caption = folder.replace('/', ': ').capitalize()
        return '\n'.join(['```{toctree}', ':hidden:', f':caption: {caption}', '', *lines, '```'])
    return markdown('\n\n'.join(map(block, [*filter(folders.__contains__, known), *sorted(folders - set(known))])))


def numbered(cells): return [cell | {'id': f'cell{number}'} for number, cell in enumerate(cells)]


def kept_report(page):
    "The cells of the page of a committed report, which nbdev need not process"
    notebook = nbformat.read(ROOT/'nbs'/page, as_version=4)
    title = notebook.cells.pop(0).source
    return numbered(report_page(notebook, title))


def page_of(cells):
    "Markdown cells as a notebook"
    kernel = {'kernelspec': {'display_name': 'python3', 'language': 'python', 'name': 'python3'}}
    made = [markdown(source) for source in cells]
    return json.dumps({'cells': numbered(made), 'metadata': kernel, 'nbformat': 4, 'nbformat_minor': 5})


def write_pages(processed, source):
    "All pages into the folder Sphinx reads"
    config = settings()
    listing = pages(processed)
    notebooks = {page: json.loads((processed/page).read_text(encoding='utf-8')) for page in listing}
    names = {re.sub(r'(^|/)\d+[a-zA-Z0-9]*_', r'\1', p.with_suffix('').as_posix()): p for p in listing}
    targets = dict(entry for page, notebook in notebooks.items() for entry in entries(notebook, page))
    for page, notebook in notebooks.items():
        content = convert(notebook, page, config['doc_host']+config['doc_baseurl'], names, targets)
        if page.parent.as_posix() == 'results': content['cells'] = kept_report(page)
        if page.as_posix() == 'index.ipynb': content['cells'].append(toctree(listing) | {'id': 'contents'})
        (source/page).parent.mkdir(parents=True, exist_ok=True)
        (source/page).write_text(json.dumps(content).replace('../docs/images/', 'images/'), encoding='utf-8')
    shutil.copytree(ROOT/'docs'/'images', source/'images')
    for page, cells in gallery.pages(listing).items(): (source/page).write_text(page_of(cells), encoding='utf-8')
    for other in processed.rglob('*'):
        if other.is_file() and other.suffix in ('.png', '.svg', '.jpg'):
            (source/other.relative_to(processed)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(other, source/other.relative_to(processed))


def build(out):
    "Notebooks to site; Sphinx's exit status"
    with TemporaryDirectory() as work:
        work = Path(work)
        write_pages(process(work), work/'pages')
        (work/'static').mkdir()
        (work/'static'/'report.css').write_text(gallery.style(), encoding='utf-8')
        options = ['-W', '--keep-going', '-q', '-c', ROOT/'docs']
        command = [sys.executable, '-m', 'sphinx', *options, work/'pages', work/'site']
        env = os.environ | {'SYNAUG_STATIC': str(work/'static')}
        status = subprocess.run(command, cwd=ROOT, env=env).returncode
        if status == 0:
            shutil.rmtree(out, ignore_errors=True)
            shutil.copytree(work/'site', out, ignore=shutil.ignore_patterns('.doctrees', '.buildinfo'))
        return status


if __name__ == '__main__':
    out = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT/settings()['doc_path']).resolve()
    failed = build(out)
    print('The site has errors' if failed else f'Site: {out}/index.html')
    sys.exit(failed)
