//! The vocabulary of the Nix store: its directory, its paths, and their registration.
//!
//! Every module may use this, because already the spec names store paths. Pure, no I/O. Names follow nix-compat.

pub mod closure;
pub mod nar;
pub mod path;
pub mod registration;
pub mod root;

pub use closure::{Closure, ClosureError};
pub use path::{StoreDir, StorePath, StorePathError};
pub use registration::Registration;
pub use root::StoreRoot;
