//! `grub/state`, by which the installer knows what is installed; pure.

use std::path::Path;

use serde_json::json;

use crate::spec::GrubState;

/// The text. With the same state, the next `nixos-rebuild` writes a new menu and does not run grub-install.
///
/// The installer writes the members of the last line in any order, and reads them in any.
pub(super) fn state(state: &GrubState, efi_mount_point: &Path) -> String {
    let efi = match (state.grub.is_empty(), state.grub_efi.is_empty()) {
        (false, false) => "both",
        (false, true) => "no",
        (true, false) => "only",
        (true, true) => "neither",
    };
    let json = json!({
        "extraGrubInstallArgs": state.extra_grub_install_args,
        "grub": state.grub,
        "grubEfi": state.grub_efi,
    });
    let lines = [
        state.full_name.as_str(),
        &state.full_version,
        efi,
        &state.devices.join(","),
        &efi_mount_point.to_string_lossy(),
        &json.to_string(),
    ];
    lines.join("\n") + "\n"
}
