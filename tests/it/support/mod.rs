//! What the scenarios share, in the order in which a scenario uses it.

#![allow(dead_code, reason = "a kit: no single set of scenarios uses all of it")]

pub(crate) mod tree;

pub(crate) mod nar;

pub(crate) mod closure;

pub(crate) mod image;

pub(crate) mod skip;

pub(crate) mod slow;

pub(crate) mod tool;

pub(crate) mod oracle;

pub(crate) mod mount;

pub(crate) mod machine;

pub(crate) mod limine;

pub(crate) mod foreign;

pub(crate) mod reading;

pub(crate) mod walk;
