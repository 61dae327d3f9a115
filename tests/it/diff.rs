//! `diff`: what changed is told, what did not is not.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::closure::{Closure, ClosureBuilder};
use crate::support::image::{Built, Run, build_command, run, sane_image};
use crate::support::tree::{Entry, Host};

fn diff(before: &Path, after: &Path, arguments: &[&str]) -> Run {
    run(sane_image().arg("diff").arg(before).arg(after).args(arguments))
}

fn parsed(run: Run) -> Value {
    serde_json::from_str(&run.stdout).unwrap()
}

fn hello(version: &str, tree: Entry) -> ClosureBuilder {
    ClosureBuilder::new().path("same-1.0", Entry::file("the same")).path(&format!("hello-{version}"), tree)
}

fn before() -> Closure {
    let tree = [
        ("gone", Entry::file("g")),
        ("kind", Entry::file("k")),
        ("link", Entry::symlink("one")),
        ("mode", Entry::file("m")),
        ("text", Entry::file("before")),
        ("unchanged", Entry::file("u")),
    ];
    hello("2.9", Entry::dir([("share", Entry::dir(tree))])).path("old-1", Entry::file("old")).write()
}

fn after() -> Closure {
    let tree = hello("2.10", Entry::dir([("bin", Entry::executable("new"))]));
    tree.path("new", Entry::file("new")).path("same-1.0-dev", Entry::file("dev")).write()
}

/// The line of a package.
fn line<'a>(said: &'a str, name: &str) -> Vec<&'a str> {
    let found = said.lines().find(|line| line.split_whitespace().nth(1) == Some(name));
    found.unwrap_or_else(|| panic!("no {name} in\n{said}")).split_whitespace().collect()
}

#[test]
fn equal_images_do_not_differ() {
    let closure = before();
    let [one, other] = [&[][..], &["--jobs", "1"]].map(|arguments| Built::new(&closure, arguments));
    for arguments in [&[][..], &["--files"]] {
        let said = diff(&one.image, &other.image, arguments).expect_success().stdout;
        assert!(said.ends_with("do not differ\n") && said.lines().count() == 1, "{said}");
    }
    let found = parsed(diff(&one.image, &other.image, &["--json", "--files"]).expect_success());
    assert_eq!((&found["differs"], &found["store"]["packages"]), (&false.into(), &Value::Array(vec![])));
}

#[test]
fn packages_are_told_as_people_know_them() {
    let (before, after) = (before(), after());
    let [one, other] = [&before, &after].map(|closure| Built::new(closure, &[]));
    let said = diff(&one.image, &other.image, &[]).expect_failure(1).stdout;
    assert!(line(&said, "hello").starts_with(&["upgraded", "hello", "2.9", "→", "2.10"]), "{said}");
    assert!(line(&said, "same").starts_with(&["upgraded", "same", "1.0", "→", "1.0,", "1.0-dev"]), "{said}");
    assert!(line(&said, "new").starts_with(&["added", "new", "<none>"]), "{said}");
    assert!(line(&said, "old").starts_with(&["removed", "old", "1"]), "{said}");
    assert_eq!(line(&said, "nixos-system-test")[0], "rebuilt");
    assert!(said.contains("4 → 5 paths: 4 added, 3 removed;"), "{said}");
    let back = diff(&other.image, &one.image, &[]).expect_failure(1).stdout;
    assert_eq!(line(&back, "hello")[0], "downgraded");

    let found = parsed(diff(&one.image, &other.image, &["--json"]).expect_failure(1));
    let mut removed: Vec<_> =
        ["hello-2.9", "nixos-system-test-26.05", "old-1"].map(|name| before.path(name).base_name()).into();
    removed.sort_unstable();
    assert_eq!(found["store"]["removed"], json!(removed));
    let total: u64 = after.paths.iter().map(|path| path.hash.size).sum();
    assert_eq!(found["store"]["after"]["narBytes"], total);
}

#[test]
fn a_closure_and_its_image_do_not_differ() {
    let (before, after) = (before(), after());
    let built = Built::new(&before, &[]);
    let info = before.on_host(&before.info);
    for closure in [info.clone(), info.join("registration")] {
        diff(&closure, &built.image, &[]).expect_success();
        diff(&built.image, &closure, &[]).expect_success();
    }
    let run = diff(&built.image, &after.on_host(&after.info), &[]).expect_failure(1);
    assert_eq!(line(&run.stdout, "hello")[0], "upgraded");
    let refused = diff(&info, &built.image, &["--files"]).expect_failure(1);
    assert!(refused.stderr.contains("only between two images"), "{}", refused.stderr);
    let neither = diff(&before.spec_path(), &built.image, &[]).expect_failure(1);
    assert!(neither.stderr.contains("is neither an image nor a registration"), "{}", neither.stderr);
}

#[test]
fn files_are_told_one_by_one() {
    let trees = [
        [("share", before().path("hello-2.9").tree.clone())].into_iter().collect::<Vec<_>>(),
        vec![(
            "share",
            Entry::dir([(
                "share",
                Entry::dir([
                    ("a\nb", Entry::file("added")),
                    ("kind", Entry::symlink("k")),
                    ("link", Entry::symlink("two")),
                    ("mode", Entry::executable("m")),
                    ("text", Entry::file("after!")),
                    ("unchanged", Entry::file("u")),
                ]),
            )]),
        )],
    ];
    // The same store path with other files, as no closure has it: an input-addressed path that was built twice.
    let root = tempfile::tempdir().unwrap();
    let [one, other] = trees.map(|tree| {
        let closure = ClosureBuilder::new().unhashed("x", Entry::dir(tree)).write();
        let name = closure.path("x").base_name().to_owned();
        (Built::new(&closure, &[]), name)
    });
    drop(root);
    let said = diff(&one.0.image, &other.0.image, &["--files"]).expect_failure(1).stdout;
    assert_eq!(one.1, other.1, "a false hash gives one name to both");
    let path = format!("nix/store/{}/share/share", one.1);
    for line in [
        format!("  + {path}/a\\nb"),
        format!("  - {path}/gone"),
        format!("  ~ {path}/kind: kind"),
        format!("  ~ {path}/link: target"),
        format!("  ~ {path}/mode: mode 0444 → 0555"),
        format!("  ~ {path}/text: contents"),
    ] {
        assert!(said.lines().any(|said| said == line), "no {line:?} in\n{said}");
    }
    assert!(!said.contains("unchanged"), "{said}");
    let found = parsed(diff(&one.0.image, &other.0.image, &["--files", "--json"]).expect_failure(1));
    let files = found["files"][0]["files"].as_array().unwrap();
    let text = files.iter().find(|file| file["path"] == format!("{path}/text")).unwrap();
    assert_eq!((&text["change"], &text["aspects"]), (&"changed".into(), &json!(["contents"])));
}

fn with_files(files: Value) -> Built {
    Built::new(&ClosureBuilder::new().spec(move |spec| spec["files"] = files).write(), &[])
}

/// What the host has of its own comes before the packages, with owners and modes, whether all files are asked for or not.
#[test]
fn files_outside_the_store_come_first() {
    let one = with_files(json!([
        { "target": "/etc/gone", "text": "g", "mode": "0600", "uid": 7 },
        { "target": "/etc/key", "text": "one" },
        { "target": "/etc/link", "symlink": "one" },
        { "target": "/etc/same", "text": "s" },
        { "target": "/home/a", "directory": true },
    ]));
    let other = with_files(json!([
        { "target": "/etc/key", "text": "two", "mode": "0600", "gid": 8 },
        { "target": "/etc/link", "symlink": "two" },
        { "target": "/etc/same", "text": "s" },
        { "target": "/home/a", "directory": true, "mode": "1700", "uid": 9 },
        { "target": "/home/a/\u{1b}", "symlink": "x" },
    ]));
    let expected = "\nfiles outside the store, partition 2\n  \
                    - etc/gone (1 B, 0600, 7:0)\n  \
                    ~ etc/key: mode 0644 → 0600, owner 0:0 → 0:8, contents\n  \
                    ~ etc/link: target\n  \
                    ~ home/a: mode 0755 → 1700, owner 0:0 → 9:0\n  \
                    + home/a/\\u{1b} (link, 0:0)\n";
    for arguments in [&[][..], &["--files"]] {
        let said = diff(&one.image, &other.image, arguments).expect_failure(1).stdout;
        assert!(said.contains(expected), "{said}");
        assert_eq!(said.matches("etc/key").count(), 1, "{said}");
        assert!(said.find("files outside").unwrap() < said.find("store paths").unwrap_or(said.len()), "{said}");
        let found = parsed(diff(&one.image, &other.image, &[arguments, &["--json"]].concat()).expect_failure(1));
        let key = &found["outsideStore"][0]["files"][1];
        assert_eq!(key["aspects"], json!(["mode", "owner", "contents"]));
        assert_eq!(key["after"], json!({ "mode": "0600", "uid": 0, "gid": 8 }));
        assert_eq!(found["files"].as_array().unwrap().len(), arguments.len());
    }
    diff(&one.image, &one.image, &[]).expect_success();
}

/// Whichever of the two it is, the one with the damage is named.
#[test]
fn an_image_that_cannot_be_read_is_named() {
    let sound = with_files(json!([{ "target": "/etc/big", "text": "x".repeat(5000) }]));
    let damaged = sound.scratch().join("damaged.img");
    let mut bytes = fs::read(&sound.image).unwrap();
    // The entry of /etc in the root directory, which has a checksum: the lengths of the name, the type, the name.
    let at = bytes.windows(5).position(|window| window == b"\x03\x02etc");
    bytes[at.expect("the name of a directory") + 4] ^= 0x40;
    fs::write(&damaged, bytes).unwrap();
    for (one, other) in [(&sound.image, &damaged), (&damaged, &sound.image)] {
        let told = diff(one, other, &[]).expect_failure(1).stderr;
        assert!(told.contains(&format!("{}: partition 2: corrupt", damaged.display())), "{told}");
        assert!(!told.contains(&format!("{}: ", sound.image.display())), "{told}");
    }
}

#[test]
fn partitions_that_moved_or_grew_are_told() {
    let one = Built::new(&before(), &[]);
    let grown = |spec: &mut Value| {
        spec["bootPartSize"] = (96u64 << 20).into();
        spec["fileSystems"]["/"]["device"] = "/dev/disk/by-label/OTHER".into();
    };
    let tree = before().path("hello-2.9").tree.clone();
    let closure = hello("2.9", tree).path("old-1", Entry::file("old")).spec(grown).host(Host::umask(0o027)).write();
    let other = Built::new(&closure, &[]);
    let said = diff(&one.image, &other.image, &[]).expect_failure(1).stdout;
    assert!(said.contains("\npartition 1 \"EFI System\"\n"), "{said}");
    assert!(said.contains("64.00 MiB (67108864) → 96.00 MiB (100663296)"), "{said}");
    assert!(said.contains("\npartition 2 \"Linux filesystem\"\n"), "{said}");
    assert!(said.contains("OTHER"), "{said}");
    assert!(!said.contains("store paths"), "the closure is the same: {said}");
    let found = parsed(diff(&one.image, &other.image, &["--json"]).expect_failure(1));
    let fields = |partition: usize| {
        let differences = found["disk"]["partitions"][partition]["differences"].as_array().unwrap();
        differences.iter().map(|difference| difference["field"].as_str().unwrap()).collect::<Vec<_>>()
    };
    assert!(fields(0).starts_with(&["size", "filesystemSize", "free"]), "{:?}", fields(0));
    assert!(fields(1).starts_with(&["offset", "guid", "label", "uuid"]), "{:?}", fields(1));
    assert_eq!(found["disk"]["table"][0]["field"], "size");
}

fn bootable(options: &str) -> Built {
    let conf = format!(
        "DEFAULT nixos-default\n\nLABEL nixos-default\n  MENU LABEL NixOS - Default\n  LINUX ../nixos/kernel\n  \
         APPEND init=/nowhere/init {options}\n"
    );
    let tree = Entry::dir([
        ("extlinux", Entry::dir([("extlinux.conf", Entry::file(conf))])),
        ("nixos", Entry::dir([("kernel", Entry::file("not a kernel"))])),
    ]);
    let builder = ClosureBuilder::new().path("boot-files", tree);
    let path = builder.store_path("boot-files").to_owned();
    Built::new(&builder.spec(move |spec| spec["extraBootFiles"] = json!([path])).write(), &[])
}

#[test]
fn what_boots_otherwise_is_told() {
    let [one, other] = ["loglevel=4", "loglevel=7 quiet"].map(bootable);
    let said = diff(&one.image, &other.image, &[]).expect_failure(1).stdout;
    let (_, entries) = said.split_once("\nboot entries\n").unwrap_or_else(|| panic!("{said}"));
    assert!(entries.starts_with("  ~ nixos-default  \"NixOS - Default\"\n"), "{said}");
    assert!(entries.contains("loglevel=4 → ") && entries.contains("loglevel=7 quiet\n"), "{said}");
    let found = parsed(diff(&one.image, &other.image, &["--json"]).expect_failure(1));
    assert_eq!(found["boot"][0]["differences"][0]["field"], "options");
    assert!(!diff(&one.image, &one.image, &[]).expect_success().stdout.contains("boot"));
}

#[test]
fn a_bare_partition_is_compared_with_its_like() {
    let closure = before();
    let built = Built::new(&closure, &[]);
    let dir = tempfile::tempdir().unwrap();
    for part in ["boot", "nix"] {
        let image = dir.path().join(part);
        run(&mut build_command(&closure.spec_path(), closure.root(), &image, &["--only", part])).expect_success();
        diff(&built.image, &image, &["--files"]).expect_success();
        diff(&image, &built.image, &[]).expect_success();
    }
    fs::remove_file(dir.path().join("boot")).unwrap();
}
