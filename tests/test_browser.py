"Reports and notebooks in a real browser, driven by its own protocol; skipped where no Chromium is"
import json
import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from synaug.outcome import save_rows, write_table
from synaug.study.pages import write_report

ROOT = Path(__file__).parent.parent
CHROMIUM = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
needs_browser = pytest.mark.skipif(not CHROMIUM, reason='no Chromium here: apt-get install chromium')
pytestmark = needs_browser


class Browser:
    "A page of a headless Chromium"
    def __init__(self, address):
        from websocket import create_connection
        self.socket, self.last, self.requests = create_connection(address, suppress_origin=True, timeout=120), 0, []
        for domain in ('Page', 'Network', 'Runtime'): self.ask(f'{domain}.enable')
        self.ask('Emulation.setFocusEmulationEnabled', enabled=True)        # a page that nobody looks at has no focus

    def ask(self, method, **options):
        "What the browser answers; requests seen on the way are kept"
        self.last += 1
        self.socket.send(json.dumps(dict(id=self.last, method=method, params=options)))
        while True:
            said = json.loads(self.socket.recv())
            if said.get('method') == 'Network.requestWillBeSent': self.requests.append(said['params']['request']['url'])
            if said.get('id') == self.last:
                assert 'error' not in said, said
                return said['result']

    def run(self, script):
        "The value of a script"
        found = self.ask('Runtime.evaluate', expression=script, returnByValue=True, awaitPromise=True)
        assert 'exceptionDetails' not in found, found
        return found['result'].get('value')

    def wait(self, script, seconds=120):
        "Until a script is true"
        deadline = time.time() + seconds
        while not self.run(script):
            assert time.time() < deadline, script
            time.sleep(.3)

    def open(self, address, width=1400, height=900, scheme='light'):
        "A page at this size, by day (light) or by night (dark)"
        self.requests.clear()
        self.ask('Emulation.setDeviceMetricsOverride', width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.ask('Emulation.setEmulatedMedia', features=[dict(name='prefers-color-scheme', value=scheme)])
        self.ask('Page.navigate', url=address)
        self.wait('document.readyState == "complete"')


@pytest.fixture(scope='module')
def browser(tmp_path_factory):
    profile = tmp_path_factory.mktemp('profile')
    options = ['--headless=new', '--no-sandbox', '--disable-gpu', '--remote-debugging-port=0', '--no-first-run']
    process = subprocess.Popen([CHROMIUM, *options, f'--user-data-dir={profile}', 'about:blank'],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    port, deadline = profile/'DevToolsActivePort', time.time() + 120
    while not (port.exists() and port.read_text()):
        assert time.time() < deadline and process.poll() is None, 'Chromium does not start'
        time.sleep(.2)
    number = port.read_text().splitlines()[0]
    pages = json.loads(urlopen(f'http://127.0.0.1:{number}/json').read())
    address = next(page['webSocketDebuggerUrl'] for page in pages if page['type'] == 'page')
    yield Browser(address)
    process.terminate()
    process.wait()


@pytest.fixture(scope='module')
def report(tmp_path_factory):
    "The report of a made-up study whose images hurt"
    out, rng = tmp_path_factory.mktemp('report')/'study', np.random.default_rng(0)
    for r in range(8):
        level, rows = .6 + rng.normal(0, .02), []
        for arm, gain in dict(real=0, oracle=.06, noise=-.01, add=-.04).items():
            rows += [dict(arm=arm, split=split, metric='macro_ap', value=level + gain + rng.normal(0, .004))
                     for split in ('val', 'test')]
        audit = dict(samples=.8, real=.95, chance=.5)
        rows += [dict(arm='audit', split=split, metric='label_auroc', value=v) for split, v in audit.items()]
        facts = dict(updates=10, seconds=1., n_real=40, n_extra=0, fingerprint='abc', n_split=90)
        save_rows(out/'runs'/f'r{r}', pd.DataFrame(rows), **facts)
    Image.fromarray(rng.integers(0, 256, (300, 420, 3), dtype=np.uint8)).save(out/'runs'/'r0'/'samples.png')
    write_table(out/'runs'/'r0'/'near_duplicates.csv', pd.DataFrame(columns=['split', 'index', 'other', 'other_index']))
    settings = dict(study='made-up', title='Would they help?', notebook='made_up.ipynb', grid={}, baseline='real',
                    parameters=dict(source='cells.npz'), metric='macro_ap', margin=.02, claims=[], command='synaug',
                    workers=1, threads=1, versions=dict(synaug='0'),
                    runs={f'r{r}': dict(replicate=r) for r in range(8)},
                    machine=dict(cpu='a processor', cores=2, gpu='none', platform='somewhere'))
    (out/'study.yaml').write_text(yaml.safe_dump(settings))
    return write_report(out).as_uri()


CONTRAST = """(() => {
  const light = c => { const v = c.match(/[\\d.]+/g).slice(0, 3).map(x => x/255)
      .map(x => x <= .03928 ? x/12.92 : ((x + .055)/1.055)**2.4); return .2126*v[0] + .7152*v[1] + .0722*v[2] }
  const ground = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor
      if (!/, 0\\)$/.test(c)) return c } return 'rgb(255, 255, 255)' }
  const low = []
  for (const e of document.querySelectorAll('main *, article *')) {
    const own = [...e.childNodes].some(n => n.nodeType == 3 && n.textContent.trim())
    const seen = e.checkVisibility({opacityProperty: true, visibilityProperty: true})
    if (!own || !seen || e.closest('pre, code, math, svg')) continue
    const [a, b] = [light(getComputedStyle(e).color), light(ground(e))].sort((x, y) => y - x)
    if ((a + .05)/(b + .05) < 4.4) low.push(e.textContent.trim().slice(0, 40))
  }
  return low })()"""
NAMELESS = """[...document.querySelectorAll('img, a[href], button, input')].filter(e =>
  !(e.alt || e.ariaLabel || e.title || e.textContent.trim() || e.labels?.length || e.placeholder)
  ).map(e => e.outerHTML.slice(0, 90))"""
WIDER = 'document.documentElement.scrollWidth - document.documentElement.clientWidth'


def elsewhere(requests): return [url for url in requests if not re.match(r'file:|data:|blob:|http://127\.0\.0\.1', url)]


# The report

def test_the_first_screen_tells_the_answer_what_to_do_and_what_images_look_like(browser, report):
    browser.open(report)
    said = browser.run('document.querySelector(".sy-answer").innerText')
    assert said.startswith('No: adding diffusion-made images made this classifier worse') and 'in 8 of 8' in said
    assert 'Label' in browser.run('document.querySelector(".sy-next").innerText')
    assert 'cells' in browser.run('document.querySelector("h1").innerText')
    for part in ('.sy-answer', '.sy-next', '.sy-pictures img'):
        assert browser.run(f'document.querySelector("{part}").getBoundingClientRect().bottom') < 900, part
    assert elsewhere(browser.requests) == [] and browser.run(NAMELESS) == []


def test_sections_unfold_and_words_explain_themselves(browser, report):
    browser.open(report)
    assert not browser.run('document.querySelector("#Verdict").closest("details").open')
    browser.run('document.querySelector("#Verdict").click()')
    assert browser.run('document.querySelector("#Verdict").closest("details").open')
    browser.run('document.querySelector(".sy-term").focus()')
    told = browser.run('getComputedStyle(document.querySelector(".sy-term"), "::after").content')
    assert len(told) > 20, told
    browser.run('document.querySelector(".sy-picture input").click()')
    assert browser.run('getComputedStyle(document.querySelector(".sy-picture img")).position') == 'fixed'


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_a_telephone_by_day_and_by_night(browser, report, scheme):
    browser.open(report, width=420, height=900, scheme=scheme)
    browser.run('document.querySelectorAll("details").forEach(d => d.open = true)')
    assert browser.run(WIDER) <= 0 and browser.run(CONTRAST) == []
    assert browser.run('getComputedStyle(document.querySelector(".sy-table td")).display') == 'grid'
    dark = browser.run('getComputedStyle(document.body).backgroundColor') != 'rgb(255, 255, 255)'
    assert dark == (scheme == 'dark')


# JupyterLab

@contextmanager
def jupyterlab(folder):
    "JupyterLab in a folder: its address"
    log = folder/'lab.log'
    options = ['--no-browser', '--port=0', '--ip=127.0.0.1', '--allow-root', '--LabApp.expose_app_in_browser=True',
               '--IdentityProvider.token=', '--ServerApp.disable_check_xsrf=True']
    env = os.environ | dict(PYTHONPATH=str(ROOT))
    with open(log, 'w') as f:
        command = [sys.executable, '-m', 'jupyterlab', *options]
        process = subprocess.Popen(command, cwd=folder, stdout=f, stderr=f, env=env)
    try:
        deadline = time.time() + 180
        while not (found := re.search(r'http://127\.0\.0\.1:(\d+)/lab', log.read_text())):
            assert time.time() < deadline and process.poll() is None, log.read_text()[-2000:]
            time.sleep(.3)
        yield f'http://127.0.0.1:{found[1]}/lab'
    finally:
        process.terminate()
        process.wait()


@pytest.mark.slow
@pytest.mark.parametrize('name', ['play', 'your_images'])
def test_guides_run_in_jupyterlab(browser, tmp_path, name):
    shutil.copy(ROOT/'nbs'/'guides'/f'{name}.ipynb', tmp_path)
    with jupyterlab(tmp_path) as address:
        browser.open(f'{address}/tree/{name}.ipynb?reset')
        browser.wait('window.jupyterapp?.shell?.currentWidget?.content?.widgets?.length > 3', 180)
        browser.wait('jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status == "idle"', 180)
        cells = 'jupyterapp.shell.currentWidget.content.widgets.filter(c => c.model.type == "code")'
        browser.run('void jupyterapp.commands.execute("notebook:run-all-cells")')
        browser.wait(f'{cells}.every(c => !c.model.sharedModel.source.trim() || c.model.executionCount) || '
                     f'{cells}.some(c => c.model.outputs.toJSON().some(o => o.output_type == "error"))', 900)
        browser.wait('jupyterapp.shell.currentWidget.sessionContext.session.kernel.status == "idle"', 900)
        errors = browser.run(f'{cells}.flatMap(c => c.model.outputs.toJSON()).filter(o => o.output_type == "error")')
        assert errors == []
        assert elsewhere(browser.requests) == []
