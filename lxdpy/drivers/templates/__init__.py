"""Rendering of templates, in worker processes."""

from lxdpy.drivers.templates.renderer import TemplateWorkers

__all__ = ["TemplateWorkers"]
