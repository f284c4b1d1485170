"The documentation site builds without a warning, offline, and says everything the notebooks say."
import ast
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from test_browser import CONTRAST, WIDER, browser, elsewhere, needs_browser  # noqa: F401 (a fixture)

ROOT = Path(__file__).parent.parent
NOTEBOOKS = [p for p in (ROOT/'nbs').rglob('*.ipynb')
             if '.ipynb_checkpoints' not in p.parts and not p.name.startswith('_')]
PAGES = sorted(p.relative_to(ROOT/'nbs').with_suffix('') for p in NOTEBOOKS)
MODULES = sorted(p for p in (ROOT/'synaug').rglob('*.py') if not p.name.startswith('_'))


class Page(HTMLParser):
    "What a page links to, its anchors, what it loads, its prose, and how many formulas it has"
    def __init__(self, path):
        super().__init__()
        self.path, self.anchors, self.formulas = path, set(), 0
        self.links, self.loads, self.prose, self.within = [], [], [], []
        self.feed(path.read_text(encoding='utf-8'))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag == 'a' and 'href' in attrs: self.links.append(attrs['href'])
        if tag in ('script', 'img', 'iframe') and 'src' in attrs: self.loads.append(attrs['src'])
        if tag == 'link' and attrs.get('rel') in ('stylesheet', 'preload', 'icon'): self.loads.append(attrs['href'])
        self.anchors |= {attrs[name] for name in ('id', 'name') if attrs.get(name)}
        self.formulas += tag == 'math'
        if tag in ('pre', 'code', 'script', 'style', 'math'): self.within.append(tag)

    def handle_endtag(self, tag):
        if self.within and self.within[-1] == tag: self.within.pop()

    def handle_data(self, data):
        if not self.within: self.prose.append(data)


def broken_links(pages):
    "`page: address` of links and loads that lead nowhere inside the site, or that need a network to draw the page"
    by_path = {page.path.resolve(): page for page in pages}
    for page in pages:
        for address in page.links + page.loads:
            parts = urlsplit(address)
            elsewhere = parts.scheme in ('http', 'https', 'mailto') and address not in page.loads
            if parts.scheme == 'data' or elsewhere: continue
            target = (page.path.parent/unquote(parts.path)).resolve() if parts.path else page.path.resolve()
            lost = parts.scheme or parts.netloc or not target.exists()
            anchors = by_path[target].anchors if target in by_path else {unquote(parts.fragment)}
            anchor_lost = parts.fragment and unquote(parts.fragment) not in anchors
            if lost or anchor_lost: yield f'{page.path.name}: {address}'


def builder(root):
    "The module docs/build.py of a checkout"
    spec = importlib.util.spec_from_file_location('build', root/'docs'/'build.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='session')
def site(tmp_path_factory):
    "The site, built once"
    out = tmp_path_factory.mktemp('docs')/'site'
    done = subprocess.run([sys.executable, ROOT/'docs'/'build.py', out], capture_output=True, text=True)
    assert done.returncode == 0 and 'WARNING' not in done.stderr, done.stderr[-4000:]
    return out


@pytest.fixture(scope='session')
def html(site):
    pages = [page for page in site.rglob('*.html') if '_static' not in page.parts]
    return {page.relative_to(site).with_suffix(''): Page(page) for page in pages}


def test_every_notebook_has_a_page_in_the_contents(html):
    assert set(PAGES) <= set(html)
    front = html[Path('index')]
    reachable = {(front.path.parent/urlsplit(a).path).resolve() for a in front.links if urlsplit(a).path}
    assert [p for p in PAGES if p != Path('index') and html[p].path.resolve() not in reachable] == []


def public_names(module):
    "`__all__` of a module, read without importing it"
    for node in ast.parse(module.read_text(encoding='utf-8')).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], 'id', '') == '__all__':
            return ast.literal_eval(node.value)
    return []


@pytest.mark.parametrize('module', MODULES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_every_public_function_and_class_has_an_entry(html, module):
    tree = ast.parse(module.read_text(encoding='utf-8')).body
    documented = {n.name for n in tree if isinstance(n, (ast.FunctionDef, ast.ClassDef))} & set(public_names(module))
    notebook = re.search(r'File to edit: \S*nbs/(\S+)\.ipynb', module.read_text(encoding='utf-8'))[1]
    anchors = html[Path(notebook)].anchors
    label = builder(ROOT).label
    assert [name for name in sorted(documented) if label(Path(notebook), name) not in anchors] == []


def test_no_link_is_broken_and_nothing_is_loaded_from_a_network(html): assert list(broken_links(html.values())) == []


def test_formulas_are_drawn(html):
    def written(page):
        cells = json.loads((ROOT/'nbs'/page).with_suffix('.ipynb').read_text(encoding='utf-8'))['cells']
        prose = '\n'.join(re.sub(r'`[^`]*`', '', ''.join(c['source'])) for c in cells if c['cell_type'] == 'markdown')
        return len(re.findall(r'\$\$.+?\$\$|(?<![\\$])\$(?! )[^$\n]+?(?<! )\$', prose, re.S))
    assert {p.as_posix(): (written(p), html[p].formulas) for p in PAGES if html[p].formulas < written(p)} == {}
    source = re.compile(r'\$\$|\\(frac|sqrt|alpha|mathbb|mathrm)')
    assert [p.as_posix() for p in PAGES if source.search(''.join(html[p].prose))] == []


def test_figures_are_on_their_pages(html):
    def figures(page):
        cells = json.loads((ROOT/'nbs'/page).with_suffix('.ipynb').read_text(encoding='utf-8'))['cells']
        shown = [c for c in cells if not re.search(r'^#\s*\|\s*(hide|output:\s*false)', ''.join(c['source']), re.M)]
        return sum('image/png' in o.get('data', {}) for c in shown for o in c.get('outputs', []))
    def drawn(page): return sum(a.endswith('.png') or a.startswith('data:image/') for a in html[page].loads)
    lost = {p.as_posix(): (figures(p), len(html[p].loads)) for p in PAGES if drawn(p) < figures(p)}
    assert lost == {}


def test_search_knows_the_api(site):
    index = (site/'searchindex.js').read_text(encoding='utf-8')
    assert all(word in index for word in ('imageset', '00_errors', 'install'))


def test_results_have_cards_headings_and_folds(html):
    gallery = html[Path('results/gallery')]
    assert {'quick.html', 'hpa_cells.html'} <= set(gallery.links)
    quick = html[Path('results/quick')].path.read_text(encoding='utf-8')
    assert quick.count('<details class="sy-fold"') > 5 and 'href="#what-was-done"' in quick
    assert '.sy-answer' in (html[Path('index')].path.parent/'_static'/'report.css').read_text(encoding='utf-8')


def test_parameters_are_tables_and_stars_stay(site):
    train = (site/'library'/'classifiers'/'06_train.html').read_text(encoding='utf-8')
    assert re.search(r'<th[^>]*><p>parameter</p></th>', train) and 'where the checkpoint is chosen' in train
    assert 'synaug inspect' in (site/'guides'/'commands.html').read_text(encoding='utf-8')


# In a browser

SEEN = 'index', 'guides/start', 'results/gallery', 'results/quick', 'library/plots/02_sheets', 'guides/commands'


@needs_browser
@pytest.mark.parametrize('page', SEEN)
def test_pages_on_a_telephone_by_day_and_by_night_ask_no_other_host(browser, site, page):  # noqa: F811
    address = (site/f'{page}.html').as_uri()
    for scheme in ('light', 'dark'):
        browser.open(address, width=420, scheme=scheme)
        assert browser.run(WIDER) <= 0 and browser.run(CONTRAST) == [], scheme
    browser.open(address)
    assert elsewhere(browser.requests) == []


@needs_browser
def test_search_finds_how_to_install(browser, site):  # noqa: F811
    browser.open((site/'search.html').as_uri() + '?q=install')
    browser.wait('document.querySelectorAll("ul.search li").length > 0')
    assert 'Start' in browser.run('document.querySelector("ul.search").innerText')


# What fails

def copy_of_checkout(to):
    "The parts of the checkout a site is built from"
    ignored = shutil.ignore_patterns('__pycache__')
    for folder in ('docs', 'synaug'): shutil.copytree(ROOT/folder, to/folder, ignore=ignored)
    (to/'nbs'/'library').mkdir(parents=True)
    shutil.copy(ROOT/'settings.ini', to)
    shutil.copy(ROOT/'nbs'/'library'/'00_errors.ipynb', to/'nbs'/'library')
    return to


def page_with(path, *sources):
    "A notebook of markdown cells"
    cells = [{'cell_type': 'markdown', 'id': f'c{i}', 'metadata': {}, 'source': s} for i, s in enumerate(sources)]
    kernel = {'kernelspec': {'display_name': 'python3', 'language': 'python', 'name': 'python3'}}
    notebook = {'cells': cells, 'metadata': kernel, 'nbformat': 4, 'nbformat_minor': 5}
    path.write_text(json.dumps(notebook), encoding='utf-8')


def test_faulty_page_fails_the_build(tmp_path):
    root = copy_of_checkout(tmp_path)
    faulty = '[there](library/no_such_page.ipynb)', r'$\nosuchcommand{x}$', '$a & b$'
    page_with(root/'nbs'/'index.ipynb', '# Front\n\n> Page', *faulty)
    done = subprocess.run([sys.executable, root/'docs'/'build.py', tmp_path/'site'], capture_output=True, text=True)
    assert done.returncode != 0 and not (tmp_path/'site').exists()
    assert 'no_such_page' in done.stderr and done.stderr.count('formula not understood') == 2


def test_broken_links_are_found(tmp_path):
    (tmp_path/'a.html').write_text(
        '<a href="b.html"></a><a href="b.html#x"></a><a href="b.html#y"></a><a href="c.html"></a>'
        '<a href="https://example.org"></a><script src="https://example.org/x.js"></script>')
    (tmp_path/'b.html').write_text('<p id="x"></p><a href="#z"></a>')
    found = sorted(broken_links([Page(tmp_path/'a.html'), Page(tmp_path/'b.html')]))
    assert found == ['a.html: b.html#y', 'a.html: c.html', 'a.html: https://example.org/x.js', 'b.html: #z']
