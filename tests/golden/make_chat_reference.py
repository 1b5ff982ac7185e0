# SPDX-License-Identifier: Apache-2.0
"""Writes chat_templates.json: what transformers makes of chat templates.

    python make_chat_reference.py [ASSETS]        see requirements.txt
    python make_chat_reference.py FOLDER OUT      all of FOLDER/*.jinja, to be read by
                                                  FORJA_CHAT_REFERENCE=OUT data_test --gtest_filter='ChatTemplate.*'

Small templates of our own, one for each thing that published ones do, and those of ASSETS, of which the path is kept, and of what
they give the size and the CRC-32.
"""

import json
import sys
import zlib
from pathlib import Path

from transformers.utils.chat_template_utils import render_jinja_template

HERE = Path(__file__).parent
VARIABLES = {"bos_token": "<s>", "eos_token": "</s>"}

TEMPLATES = {
    "whitespace": """
{% for m in messages %}
    {# a comment takes its line #}
    {% if m.role == 'user' %}
  U: {{ m.content }}
    {%- else -%}
  A: {{- m['content'] -}}
    {% endif %}
{% endfor %}
{%+ if true %}  kept {%+ endif %}
x{% if add_generation_prompt %}
A:
{%- endif %}
""",
    "loop": """{% for m in messages %}{{ loop.index }}/{{ loop.length }} {{ loop.index0 }} {{ loop.first }} {{ loop.last }} {{ loop.revindex }} {{ loop.previtem.role if loop.previtem is defined else '-' }} {{ loop.nextitem.role if loop.nextitem is defined else '-' }};{% endfor %}{% for x in [] %}never{% else %}empty{% endfor %}{% for m in messages if m.role == 'user' %}{{ loop.index }}{{ m.content }}{% endfor %}{% for i in range(10) %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 5 %}{% break %}{% endif %}{{ i }}{% endfor %}{% for k, v in {'b': 1, 'a': none}.items() %}{{ k }}={{ v }},{% endfor %}""",
    "scopes": """{% set x = 1 %}{% for m in messages %}{% set x = 2 %}{{ x }}{% endfor %}{{ x }}{% if true %}{% set x = 3 %}{% endif %}{{ x }}{% set ns = namespace(n=0, last='') %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% set ns.last = m.content %}{% endfor %}{{ ns.n }}{{ ns.last }}{% set a, b = 'p', 'q' %}{{ a ~ b }}{% set text %}<{{ x }}>{% endset %}{{ text }}""",
    "macro": """{%- macro show(role, content='nothing', end=eos_token) -%}[{{ role }}|{{ content | trim }}]{{ end }}{%- endmacro -%}{% for m in messages %}{{ show(m.role, m.content) }}{{ show(m.role) }}{{ show('x', end='!') }}{% endfor %}""",
    "operators": """{{ 1 + 2 * 3 }} {{ (1 + 2) * 3 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2.5 + 1 }} {{ 'a' + 'b' ~ 1 ~ none ~ true }} {{ 1 == 1.0 }} {{ 'a' != 'b' }} {{ 1 < 2 and 2 <= 2 }} {{ not false or false }} {{ '' or 'other' }} {{ 'x' and 'y' }} {{ 3 > 2 > 1 }} {{ 'b' in 'abc' }} {{ 2 not in [1, 3] }} {{ 'k' in {'k': 1} }} {{ 'yes' if messages | length > 1 else 'no' }} {{ 'none' if false }}|{{ [1, 'a', [true, none, 1.5], {'k': "it's"}] }} {{ [1] + [2] }} {{ +3 - -2 }}""",
    "parts": """{{ messages[0].role }}{{ messages[-1]['role'] }}{{ messages[99] is defined }}{{ messages[1:] | length }}{{ messages[::-1] | map(attribute='role') | join(',') }}{{ 'abcñe'[1:4] }}{{ 'abcñe'[-1] }}{{ 'abc'[::-1] }}{{ [1, 2, 3, 4][1:-1] }}{{ [1, 2, 3][5:] }}{{ messages[0].missing is defined }}{{ messages[0].get('missing', 'd') }}{{ missing }}{{ missing is undefined }}""",
    "filters": """{{ '  a b ' | trim }}|{{ messages | tojson }}|{{ {'a': [1, 2.5, 'ñ"\\n'], 'b': {}} | tojson(indent=2) }}|{{ 'aBc' | upper }}{{ 'aBc' | lower }}{{ 'hello wORLD' | title }}{{ 'hELLO' | capitalize }}|{{ [3, 1] | first }}{{ [3, 1] | last }}{{ 'xyz' | first }}|{{ messages | selectattr('role', 'equalto', 'user') | list | length }}{{ messages | rejectattr('role', 'eq', 'user') | map(attribute='content') | list }}|{{ none | default('d') }}{{ missing | default('d') }}{{ '' | default('d', true) }}|{{ [1, 2] | join('-') }}{{ 'abc' | list }}{{ 'a-b' | replace('-', '+') }}{{ '12' | int + 1 }}{{ 3 | string + 'x' }}{{ -3 | abs }}{{ [1, 2] | reverse | list }}{% for k, v in {'B': 1, 'a': 2} | dictsort %}{{ k }}{{ v }}{% endfor %}{% for k, v in {'a': 1} | items %}{{ k }}{{ v }}{% endfor %}{{ ['', 'x'] | select | list }}{{ 2.0 | float }}""",
    "methods": """{{ ' x '.strip() }}|{{ 'xxaxx'.strip('x') }}{{ 'xxa'.lstrip('x') }}{{ 'axx'.rstrip('x') }}|{{ 'a,b,c'.split(',') }}{{ ' a  b '.split() }}{{ 'a,b,c'.split(',', 1)[-1] }}|{{ 'abc'.startswith('ab') }}{{ 'abc'.endswith('bc') }}{{ 'aXa'.replace('a', 'b') }}{{ 'aaa'.replace('a', 'b', 2) }}|{{ 'aB'.upper() }}{{ 'aB'.lower() }}{{ 'the end'.title() }}|{{ {'k': 1}.keys() | list }}{{ {'k': 1}.values() | list }}{{ {'k': 1}.get('x') }}""",
    "tests": """{% for x in [none, true, 1, 1.5, 'a', [1], {'a': 1}] %}{{ x is none }}{{ x is string }}{{ x is number }}{{ x is integer }}{{ x is boolean }}{{ x is mapping }}{{ x is sequence }}{{ x is iterable }}{{ x is true }} {% endfor %}{{ 3 is odd }}{{ 3 is not even }}{{ 3 is in [1, 3] }}{{ 'a' is equalto 'a' }}{{ 'a' is ne('b') }}{{ missing is not defined }}""",
    "generation": """{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{{ eos_token }}{% endgeneration %}{% else %}[{{ m.content }}]{% endif %}{% endfor %}""",
    "strings": """{{ 'a\\tb\\u00f1\\x41\\'"' }}{{ "joined " 'parts' }}{{ '{{ }} {% %}' }}{{ '\\\\' }}""",
    "refuses": """{% for m in messages %}{% if m.role == 'user' %}{{ raise_exception('no ' + m.role + ' here') }}{% endif %}{% endfor %}""",
}
ASSET_TEMPLATES = {"llama3": "tokenizers/llama3/tokenizer_config.json", "qwen2.5": "tokenizers/qwen2.5/tokenizer_config.json"}

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": 'The weather of a "city"',
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Barañain"}}}
CONVERSATIONS = {
    "short": [{"role": "user", "content": "Hello"}],
    "long": [
        {"role": "system", "content": " You are kind. "},
        {"role": "user", "content": "  1 + 1?\n"},
        {"role": "assistant", "content": "2 {{ no }} ñ"},
        {"role": "user", "content": ""},
        {"role": "assistant", "content": "\nbye "},
    ],
    "tool": [
        {"role": "user", "content": "Rain?"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": '{"rain": 0.5}'},
        {"role": "assistant", "content": "A little."},
    ],
}


def cases(source, messages, is_own):
    for prompt in (False, True):
        for tools in ([None] if is_own else [None, [TOOL]]):
            try:
                text, spans = render_jinja_template(
                    conversations=[messages],
                    tools=tools,
                    chat_template=source,
                    add_generation_prompt=prompt,
                    return_assistant_tokens_mask=True,
                    **VARIABLES,
                )
                bytes_of = text[0].encode()
                result = {"bytes": len(bytes_of), "crc32": zlib.crc32(bytes_of)}
                if is_own:
                    marked = [[len(text[0][:i].encode()) for i in span] for span in spans[0]]
                    result = {"text": text[0], "generated": marked}
            except Exception as error:  # whatever the template raises
                result = {"refused": str(error) if is_own else True}
            yield {"add_generation_prompt": prompt, "tools": tools, **result}


def main():
    out = {"variables": VARIABLES, "conversations": CONVERSATIONS, "templates": {}}
    sources = {name: (source, {"source": source}) for name, source in TEMPLATES.items()}
    target = HERE / "chat_templates.json"
    if len(sys.argv) > 2:
        target = Path(sys.argv[2])
        for path in sorted(Path(sys.argv[1]).glob("*.jinja")):
            source = path.read_text(encoding="utf-8")
            sources[path.name] = (source, {"source": source})
    elif len(sys.argv) > 1:
        for name, path in ASSET_TEMPLATES.items():
            config = json.loads((Path(sys.argv[1]) / path).read_text(encoding="utf-8"))
            sources[name] = (config["chat_template"], {"asset": path})
    for name, (source, kept) in sources.items():
        results = {key: list(cases(source, messages, "source" in kept)) for key, messages in CONVERSATIONS.items()}
        out["templates"][name] = {**kept, "results": results}
    target.write_text(json.dumps(out, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
