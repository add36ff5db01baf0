"""Instances: lifecycle, configuration, profiles, snapshots, copies, backups, files, exec."""

from lxdpy.services.instances.access import Transfer
from lxdpy.services.instances.backups import NewBackup
from lxdpy.services.instances.exec import ExecRequest
from lxdpy.services.instances.files import NewFile
from lxdpy.services.instances.importing import NewImport
from lxdpy.services.instances.life import DEFAULT_STOP_TIMEOUT_S, Stop
from lxdpy.services.instances.model import (
    Action,
    Instance,
    InstanceSettings,
    InstanceState,
    InstanceStatus,
    NewCopy,
    NewInstance,
    Snapshot,
)
from lxdpy.services.instances.profiles import Profiles, ProfileSettings
from lxdpy.services.instances.publish import Publication
from lxdpy.services.instances.service import InstanceService

__all__ = [
    "DEFAULT_STOP_TIMEOUT_S",
    "Action",
    "ExecRequest",
    "Instance",
    "InstanceService",
    "InstanceSettings",
    "InstanceState",
    "InstanceStatus",
    "NewBackup",
    "NewCopy",
    "NewFile",
    "NewImport",
    "NewInstance",
    "ProfileSettings",
    "Profiles",
    "Publication",
    "Snapshot",
    "Stop",
    "Transfer",
]
