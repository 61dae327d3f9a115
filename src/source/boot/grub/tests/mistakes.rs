//! Systems that GRUB cannot boot as their configuration lets one think.

use serde_json::json;

use super::host::{ART, Host, TOPLEVEL};

#[test]
fn a_system_without_kernel_or_initrd_is_named() {
    for name in ["kernel", "initrd"] {
        let host = Host::new();
        host.remove(&format!("{TOPLEVEL}/{name}"));
        let error = host.error(json!({}));
        assert!(error.contains(&format!("{TOPLEVEL}: has no {name}, so that GRUB has no entry")), "{error}");
    }
    let host = Host::new();
    host.remove(&format!("{TOPLEVEL}/init"));
    assert!(host.error(json!({})).contains("/init: cannot be read"), "{}", host.error(json!({})));
}

/// The installer leaves it out, too, and says nothing.
#[test]
fn a_specialisation_without_initrd_is_told() {
    let host = Host::new();
    let path = "/nix/store/5q43idch209zsdngl8yl79x0y79aajib-nixos-system-calm";
    host.system(path);
    host.remove(&format!("{path}/initrd"));
    host.link(&format!("{TOPLEVEL}/specialisation/calm"), path);
    let laid_out = host.lay_out(json!({})).unwrap();
    assert!(
        matches!(&laid_out.warnings[..], [line] if line.contains("specialisation calm has no kernel or no initrd"))
    );
    assert!(!laid_out.text("grub/grub.cfg").contains("calm"));
    host.remove(&format!("{path}/nixos-version"));
    assert!(host.error(json!({})).contains("specialisation/calm: has neither nixos-version nor a kernel"));
}

#[test]
fn texts_that_would_spoil_the_menu_are_named() {
    for (file, text, said) in [
        ("nixos-version", "26.05 \"Y\"", "nixos-version: \"26.05 \\\"Y\\\"\" holds a quotation mark"),
        ("kernel-params", "quiet\nboot", "kernel-params: \"quiet\\nboot\" holds a line break or a NUL character"),
        ("kernel-params", "a=\"b c", "kernel-params: \"a=\\\"b c\" holds a quote without its other half"),
        ("kernel-params", "quiet a=b;c", "holds a quote without its other half, or one of {}|&;<>$ outside quotes"),
    ] {
        let host = Host::new();
        host.file(&format!("{TOPLEVEL}/{file}"), text);
        let error = host.error(json!({}));
        assert!(error.contains(said), "{error}");
    }
}

/// GRUB keeps what is in quotes together, and so does Linux.
#[test]
fn quotes_on_the_command_line_are_as_they_are() {
    let host = Host::new();
    let params = "dyndbg=\"file a.c +p; file b.c +p\" a=#1 memmap=16M\\$0x1000";
    host.file(&format!("{TOPLEVEL}/kernel-params"), params);
    assert!(host.lay_out(json!({})).unwrap().text("grub/grub.cfg").contains(&format!("/init {params}\n")));
}

#[test]
fn kernels_outside_the_store_are_named() {
    let host = Host::new();
    let outside = tempfile::NamedTempFile::new().unwrap();
    host.remove(&format!("{TOPLEVEL}/kernel"));
    host.link(&format!("{TOPLEVEL}/kernel"), outside.path().to_str().unwrap());
    assert!(host.error(json!({})).contains("outside the store"), "{}", host.error(json!({})));
}

#[test]
fn secrets_are_told_and_left_out() {
    let host = Host::new();
    host.executable(&format!("{TOPLEVEL}/append-initrd-secrets"), "#!/bin/sh\n");
    let laid_out = host.lay_out(json!({})).unwrap();
    assert!(
        matches!(&laid_out.warnings[..], [line] if line.contains("boot.initrd.secrets")),
        "{:?}",
        laid_out.warnings
    );
    assert!(!laid_out.text("grub/grub.cfg").contains("secrets"));
}

#[test]
fn a_command_line_that_linux_would_cut_is_told() {
    let host = Host::new();
    host.file(&format!("{TOPLEVEL}/kernel-params"), "x".repeat(2048));
    let laid_out = host.lay_out(json!({})).unwrap();
    assert!(matches!(&laid_out.warnings[..], [line] if line.contains("Linux takes 2047")), "{:?}", laid_out.warnings);
}

#[test]
fn a_theme_is_a_directory_without_links() {
    let host = Host::new();
    host.file(&format!("{ART}/theme.txt"), "");
    let error = host.error(json!({ "theme": format!("{ART}/theme.txt") }));
    assert!(error.contains("grub: theme: ") && error.contains("is not a directory"), "{error}");
    host.link(&format!("{ART}/icons"), "/nix/store");
    let error = host.error(json!({ "theme": ART }));
    assert!(error.contains("leads to the directory"), "{error}");
}
