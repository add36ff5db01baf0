"""Templates as images have them."""

import pytest

from lxdpy.errors import InvalidRequestError
from lxdpy.workers.templates.render import render

CONTEXT = {
    "trigger": "create",
    "path": "/etc/hosts",
    "container": {"name": "web", "type": "container", "architecture": "x86_64", "privileged": "false"},
    "instance": {"name": "web", "type": "container", "architecture": "x86_64", "privileged": "false"},
    "config": {"user.user-data": "#cloud-config\n{}\n", "plain": "value", "user.empty": ""},
    "devices": {"root": {"type": "disk"}, "eth0": {"type": "nic"}},
    "properties": {"default": "of the image", "x": "1"},
}

CLOUD_INIT = """\
{% if config_get("cloud-init.user-data", "") == "" %}{{ config_get("user.user-data", properties.default) }}\
{% else %}{{ config_get("cloud-init.user-data", "") }}{% endif %}
"""
NETWORK = """\
{% if config_get("user.network-config", "") == "" %}version: 1
config:
  - type: physical
    name: {% if instance.type == "virtual-machine" %}enp5s0{% else %}eth0{% endif %}
{% else %}{{ config_get("user.network-config", "") }}{% endif %}
"""


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("127.0.1.1\t{{ container.name }}\n", "127.0.1.1\tweb\n"),
        ("{{ instance.name }} {{ trigger }} {{ path }} {{ config.plain }}", "web create /etc/hosts value"),
        ("{{ properties.x }}{{ properties.missing }}{{ nothing.at.all }}", "1"),
        (CLOUD_INIT, "#cloud-config\n{}\n"),
        (NETWORK, "version: 1\nconfig:\n  - type: physical\n    name: eth0\n\n"),
        ('{{ config_get("user.none") }}|{{ config_get("user.none", "d") }}|{{ config_get("user.empty", "d") }}', "|d|"),
        ('{{ properties.missing|default:"a b" }} {{ properties.x|default:"2" }}', "a b 1"),
        ("{{ properties.missing|default:instance.name|upper }}", "WEB"),
        ('{% if trigger == "create" && !properties.y || false %}yes{% endif %}', "yes"),
        ('{% if trigger != "create" %}no{% elif trigger == "create" %}yes{% endif %}', "yes"),
        ('{{ "a && !b || c|d:e" }}', "a && !b || c|d:e"),
        ("{% for name, device in devices %}{{ name }}={{ device.type }};{% endfor %}", "eth0=nic;root=disk;"),
        ("{% for key in properties %}{{ key }};{% endfor %}", "default;x;"),
        ("a{# no #}b{% comment %}\n{{ bad( }}{% endcomment %}c", "abc"),
        ("{% autoescape off %}<{{ config.plain }}>&{% endautoescape %}\n", "<value>&\n"),
        ("two\n\n", "two\n\n"),
        ("{% for key in properties reversed %}{{ key }};{% endfor %}", "x;default;"),
        ("{% for k, v in properties sorted reversed %}{{ k }}={{ v }};{% endfor %}", "x=1;default=of the image;"),
        ('{% for i in "abc" %}{{ forloop.Counter }}{{ i }}{% if forloop.Last %}!{% endif %}{% endfor %}', "1a2b3c!"),
        ('{% ifequal trigger "create" %}y{% endifequal %}{% ifnotequal trigger "copy" %}z{% endifnotequal %}', "yz"),
        ('{{ "a,b"|split:","|join:"-" }} {{ "abc"|slice:"1:2" }} {{ "abc"|cut:"b" }} {{ "x"|add:"y" }}', "a-b b ac xy"),
        ('{{ properties.x|yesno:"a,b" }} {{ container.name|capfirst }} {{ ""|default_if_none:"n" }}', "a Web "),
        ("é {{ 'ü' }}", "é ü"),
    ],
)
def test_renders(template: str, text: str) -> None:
    assert render(template, CONTEXT) == text


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("a\n{% if %}", "line 2"),
        ("{{ 1 / 0 }}", "division by zero"),
        ('{% include "/etc/passwd" %}', "no loader"),
        ("{{ ().__class__.__base__.__subclasses__() }}", "unsafe|undefined"),
        ("{{ config_get.__globals__.clear() }}", "unsafe|undefined"),
        ('{{ "%1000000s"|format(1) * 4 }}' * 2, "longer than"),
        ("{% nonsense %}", "unknown tag"),
        ("\0", "NUL"),
        ("{{ x|nofilter }}", "nofilter"),
    ],
)
def test_refuses(template: str, reason: str) -> None:
    with pytest.raises(InvalidRequestError, match=reason):
        render(template, CONTEXT)
