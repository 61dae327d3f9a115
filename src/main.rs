//! The `sane-image` command.

fn main() {}
