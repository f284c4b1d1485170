"Formulas as MathML, which browsers draw without a script or a network"
import re

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.util import logging

DIALECT = {r'\{(aligned|split|gathered)\}': '{align*}', r'\\arg(?![a-z])': r'\\operatorname{arg}'}
logger = logging.getLogger(__name__)


def mathml(node, display):
    "The MathML of a formula; a warning, which fails the build, for one that cannot be read"
    formula = node.astext()
    for found, understood in DIALECT.items(): formula = re.sub(found, understood, formula)
    try: result = convert(formula, display=display).replace('<mi>&#x0007E;</mi>', '<mo>&#x0223C;</mo>')
    except Exception as error: result, problem = '', f'{type(error).__name__} {error}'
    else: problem = 'unknown command or stray &' if re.search(r'\\|>&amp;<|>&<', result) else ''
    if problem: logger.warning('formula not understood (%s): %s', problem, formula, location=node, type='mathml')
    return result


def inline(translator, node):
    "A formula within a line"
    translator.body.append(f'<span class="math">{mathml(node, "inline")}</span>')
    raise nodes.SkipNode


def block(translator, node):
    "A formula on a line of its own"
    translator.body.append(translator.starttag(node, 'div', CLASS='math'))
    translator.body.append(f'{mathml(node, "block")}</div>')
    raise nodes.SkipNode


def setup(app):
    "Called by Sphinx"
    app.add_html_math_renderer('mathml', inline_renderers=(inline, None), block_renderers=(block, None))
    return {'parallel_read_safe': True, 'parallel_write_safe': True}
