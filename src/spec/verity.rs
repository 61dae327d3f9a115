//! `verity`: whether the kernel checks each block of the store's filesystem when it reads it.

use serde_json::Value;

use super::device::Device;
use super::fields::{Object, as_is, member_path};
use super::file_system::Mounts;
use crate::discoverable::{Architecture, Content, Tree, Type};

/// A hash tree beside the filesystem of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verity {
    /// Of the machine that boots, whose name is in the types of the partitions.
    pub architecture: Architecture,
    /// Which of the two filesystems that systemd verifies it is.
    pub tree: Tree,
}

impl Verity {
    /// The type of the partition with the filesystem, or with its hash tree.
    pub fn partition_type(self, content: Content) -> Type {
        Type { architecture: self.architecture, tree: self.tree, content }
    }
}

/// The filesystem with this device.
pub(super) fn of_device(text: &str) -> Option<Tree> {
    Tree::ALL.into_iter().find(|tree| tree.device() == text)
}

/// The member `verity`, which may be null, before the filesystems are read.
pub(super) fn read(top: &mut Object<'_>) -> Option<Option<Architecture>> {
    let value = top.optional("verity", "an object or null", Value::Null, as_is)?;
    if value.is_null() {
        return Some(None);
    }
    let mut fields = top.nested(top.member("verity"), value)?;
    let wanted = "the machine's architecture as systemd names it, such as \"x86-64\"";
    let architecture = fields.required("architecture", wanted, |name: String| name.parse::<Architecture>());
    fields.finish();
    Some(Some(architecture?))
}

/// Judges the filesystem of the store: where it is verified, its device is the one that systemd opens, and nothing
/// writes to it. `architecture` is what [`read`] gave.
pub(super) fn judge(architecture: Option<Architecture>, mounts: &Mounts, top: &mut Object<'_>) -> Option<Verity> {
    let nix = mounts.nix.as_ref()?;
    let path = member_path(&top.member("fileSystems"), &nix.mount_point.to_string_lossy());
    match (architecture, &nix.device) {
        (None, &Device::Verified(tree)) => {
            let remedy = format!("set verity, or {path}.device to a path in /dev/disk");
            top.note(format!("{path}.device"), format!("{:?} is there only with verity", tree.device()), remedy);
            None
        }
        (None, _) => None,
        (Some(architecture), &Device::Verified(tree)) => {
            if !nix.is_read_only() {
                let remedy = format!("add \"ro\" to {path}.options");
                top.note(format!("{path}.options"), "let the system write, which verity does not allow", remedy);
            }
            Some(Verity { architecture, tree })
        }
        (Some(_), _) => {
            let remedy = format!("set {path}.device to {:?} or {:?}", Tree::Usr.device(), Tree::Root.device());
            let problem = "is not what systemd opens for a verified filesystem";
            top.note(format!("{path}.device"), problem, remedy);
            None
        }
    }
}

/// What may be wrong if nothing in the image tells the system the root hash.
pub(super) fn warning(verity: Option<Verity>, has_uki: bool) -> Option<String> {
    let parameter = verity.filter(|_| !has_uki)?.tree.hash_parameter();
    Some(format!(
        "verity: nothing in the image has the root hash, without which the system does not find its store; set uki, or \
         add {parameter}= to the kernel's parameters with rootHash of layout.json"
    ))
}
