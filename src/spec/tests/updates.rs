//! `updates`: versions, and what they ask of the rest.

use super::*;

/// The minimal spec with these updates, whose store is found as they need it.
fn updating(updates: Value) -> Value {
    let mut spec = with("/updates", updates);
    set(&mut spec, "/fileSystems/~1/device", json!("/dev/disk/by-partlabel/kiosk_1.2"));
    spec
}

fn kiosk() -> Value {
    json!({ "name": "kiosk", "version": "1.2" })
}

#[test]
fn a_version_has_its_names() {
    let updates = good(&updating(kiosk())).updates.unwrap();
    assert_eq!((updates.store_label(), updates.hash_label()), ("kiosk_1.2".to_owned(), "kiosk_1.2_verity".to_owned()));
    assert_eq!(updates.slot_size, None);
    let sized = json!({ "name": "kiosk", "version": "1.2", "slotSize": 64 << 20 });
    assert_eq!(good(&updating(sized)).updates.unwrap().slot_size, Some(64 << 20));
    assert_eq!(good(&with("/updates", Value::Null)).updates, None);
}

#[test]
fn names_and_versions_are_what_patterns_can_tell_apart() {
    let bad_part = |name: &str, version: &str| bad(&updating(json!({ "name": name, "version": version })));
    let told = [
        ("", "1"),
        (".kiosk", "1"),
        ("my kiosk", "1"),
        ("a@v", "1"),
        ("kiosk", "1_2"),
        ("kiosk", "1+2"),
        ("kiosk", "ä"),
    ];
    insta::assert_snapshot!(told.map(|(name, version)| bad_part(name, version)).join("\n"), @r#"
    updates.name: is empty; set updates.name to a name such as "myhost"
    updates.name: ".kiosk" does not start with a letter or a digit; set updates.name to a name such as "myhost"
    updates.name: "my kiosk" has ' ' in it; there can be letters and digits of ASCII, ".", "_" and "-"; set updates.name to a name such as "myhost"
    updates.name: "a@v" has '@' in it; there can be letters and digits of ASCII, ".", "_" and "-"; set updates.name to a name such as "myhost"
    updates.version: "1_2" has '_' in it; there can be letters and digits of ASCII, "." and "-"; set updates.version to a version such as "1.0"
    updates.version: "1+2" has '+' in it; there can be letters and digits of ASCII, "." and "-"; set updates.version to a version such as "1.0"
    updates.version: "ä" does not start with a letter or a digit; set updates.version to a version such as "1.0"
    "#);
    let longest = "a".repeat(26);
    let spec = json!({ "name": longest, "version": "12" });
    let mut fits = with("/updates", spec);
    set(&mut fits, "/fileSystems/~1/device", json!(format!("/dev/disk/by-partlabel/{longest}_12")));
    assert_eq!(good(&fits).updates.unwrap().hash_label().len(), 36);
    insta::assert_snapshot!(bad_part(&longest, "123"), @r#"updates.version: would make a partition "aaaaaaaaaaaaaaaaaaaaaaaaaa_123_verity", whose name has 37 characters of 36; set updates.name to a shorter one"#);
}

#[test]
fn sizes_of_slots_are_whole_mib() {
    let sized = |size: Value| bad(&updating(json!({ "name": "kiosk", "version": "1.2", "slotSize": size })));
    insta::assert_snapshot!([json!(0), json!(1_000_000), json!("1G")].map(sized).join("\n"), @r#"
    updates.slotSize: is zero; set updates.slotSize to a number of bytes in whole MiB, or null
    updates.slotSize: 1000000 is not a whole number of MiB; 1048576 would be; set updates.slotSize to a number of bytes in whole MiB, or null
    updates.slotSize: "1G" is a text, where 1073741824 is the number of bytes; set updates.slotSize to a number of bytes in whole MiB, or null
    "#);
}

#[test]
fn each_version_finds_its_own_store() {
    for device in [NIX_UUID, "/dev/disk/by-label/NIXOS", "/dev/disk/by-partlabel/kiosk_1.3"] {
        let mut spec = with("/updates", kiosk());
        set(&mut spec, "/fileSystems/~1/device", json!(device));
        insta::allow_duplicates! {
            insta::assert_snapshot!(bad(&spec), @r#"fileSystems."/".device: does not tell this version from the one in the other slot, as updates needs it; set fileSystems."/".device to "/dev/disk/by-partlabel/kiosk_1.2""#);
        }
    }
}

#[test]
fn no_other_partition_looks_like_a_version() {
    let mut spec = updating(kiosk());
    let partition = |name: &str| json!({ "name": name, "typeGuid": SWAP, "size": 1 << 20 });
    set(&mut spec, "/extraPartitions", json!([partition("kiosk"), partition("kiosk-data"), partition("_empty")]));
    good(&spec);
    set(&mut spec, "/extraPartitions", json!([partition("kiosk_data")]));
    insta::assert_snapshot!(bad(&spec), @r#"extraPartitions[0].name: "kiosk_data" would be taken for a version of "kiosk", and overwritten; set extraPartitions[0].name to one that does not start with "kiosk_""#);
}
