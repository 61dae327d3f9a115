//! `/boot` as nixpkgs' installer and grub-install leave it, and what cannot be laid out.

mod goldens;
mod host;
mod installed;
mod mistakes;
