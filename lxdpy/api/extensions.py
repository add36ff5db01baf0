"""The API extensions that this daemon really has, in the order of api/extensions.md."""

LXD_EXTENSIONS = (
    "etag",
    "patch",
    "instances",
    "network",
    "network_leases",
    "operation_description",
    "operation_wait",
    "event_lifecycle",
    "event_lifecycle_requestor",
    "event_project",
    "image_types",
    "instance_all_projects",
    "container_full",
    "instance_get_full",
    "api_filtering",
    "console",
    "container_exec_recording",
    "container_exec_signal_handling",
    "container_exec_user_group_cwd",
    "console_force",
    "directory_manipulation",
    "file_symlinks",
    "file_append",
    "file_delete",
    "file_get_symlink",
    "instances_files_modify_permissions",
    "resources",
    "resources_v2",
    "resources_numa",
    "resources_disk_id",
    "resources_usb_pci",
    "resources_cpu_threads_numa",
    "resources_cpu_core_die",
    "resources_system",
    "resources_pci_iommu",
    "warnings",
    "instance_oci",
    "instance_create_start",
    "storage",
)
"""LXD's and Incus' names."""

OWN_EXTENSIONS = (
    "image_ancestry",
    "instance_console_follow",
    "instance_exit_status",
    "instance_file_modified",
    "image_oci_source",
    "operation_layer_progress",
    "operation_error_code",
    "instance_stop_signal",
)
"""Names of our own."""

EXTENSIONS = LXD_EXTENSIONS + OWN_EXTENSIONS
