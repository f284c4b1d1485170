"Sphinx settings of the documentation site; names and version come from settings.ini"
import os
import sys
from configparser import ConfigParser
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
config = ConfigParser(delimiters=['='])
config.read(Path(__file__).parent.parent/'settings.ini', encoding='utf-8')
settings = config['DEFAULT']

project, author, copyright = settings['title'], settings['author'], settings['copyright']
version = release = settings['version']
extensions = ['myst_nb', 'sphinx_copybutton', 'mathml']
suppress_warnings = ['myst.header']

nb_execution_mode = 'off'
nb_output_stderr = 'remove'
nb_render_markdown_format = 'myst'
nb_code_prompt_show = 'Show the code'
nb_code_prompt_hide = 'Hide the code'
myst_enable_extensions = ['amsmath', 'attrs_block', 'attrs_inline', 'colon_fence', 'deflist', 'dollarmath']
myst_dmath_double_inline = True
myst_heading_anchors = 3
html_math_renderer = 'mathml'

html_theme = 'sphinx_book_theme'
html_title = project
html_static_path = [str(Path(__file__).parent/'static'), *filter(None, [os.environ.get('SYNAUG_STATIC')])]
html_css_files = ['report.css', 'synaug.css']
html_favicon = str(Path(__file__).parent/'static'/'favicon.svg')
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    'repository_url': settings['git_url'], 'repository_branch': settings['branch'], 'path_to_docs': 'nbs',
    'use_repository_button': True, 'use_source_button': True,
    'logo': {'text': project}, 'home_page_in_toc': True, 'show_navbar_depth': 2, 'show_toc_level': 2,
    'navbar_persistent': [], 'use_download_button': False, 'use_fullscreen_button': False,
    'extra_footer': f'{project} {release}', 'pygments_light_style': 'a11y-high-contrast-light',
    'pygments_dark_style': 'a11y-high-contrast-dark'}
