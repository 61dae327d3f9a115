//! `nixDatabase`: the image brings Nix's database of its store paths, made here by Nix itself.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::closure::{Closure, ClosureBuilder};
use crate::support::image::{Built, Run, build_command, run, sane_image};
use crate::support::oracle;
use crate::support::tool::{self, need, need_root, tool};
use crate::support::tree::{Entry, Host};

/// Where the files are if the system has to copy them.
const IN_IMAGE: &str = "nix-database/db.sqlite";

/// A closure whose spec asks for the database in `database`, changed by `change`.
fn closure(database: &Path, change: impl FnOnce(&mut Value) + 'static) -> Closure {
    let database = database.to_owned();
    ClosureBuilder::new()
        .path("data-1.0", Entry::dir([("file", Entry::file("contents"))]))
        .referring("file", Entry::file("only a file"), &["data-1.0"])
        .spec(move |spec| {
            spec["nixDatabase"] = json!(database);
            change(spec);
        })
        .write()
}

/// The store on a filesystem of its own, beside a root that is empty at each boot.
fn store_alone(spec: &mut Value) {
    let nix = spec["fileSystems"]["/"].take();
    spec["fileSystems"]["/"] = json!({ "device": "none", "fsType": "tmpfs", "options": [] });
    spec["fileSystems"]["/nix/store"] = nix;
}

/// Mounted so that nobody can write to it.
fn read_only(spec: &mut Value) {
    spec["fileSystems"]["/"]["options"] = json!(["noatime,ro"]);
}

/// The database of a closure's paths as the NixOS side makes it, or `None` where no Nix is here.
fn made_by_nix(closure: &Closure) -> Option<TempDir> {
    if !need_root() || !need("nix-store") || !need("python3") {
        return None;
    }
    let root = tempfile::tempdir().unwrap();
    let store = root.path().join("nix/store");
    fs::create_dir_all(&store).unwrap();
    Host::CANONICAL.write_all(&store, closure.paths.iter().map(|path| (path.base_name(), &path.tree))).unwrap();
    oracle::nix_store(root.path(), &closure.on_host(&closure.info).join("registration")).expect_clean();
    let made = tempfile::tempdir().unwrap();
    for name in ["db.sqlite", "schema"] {
        fs::copy(root.path().join("nix/var/nix/db").join(name), made.path().join(name)).unwrap();
    }
    sql(made.path(), "PRAGMA journal_mode = DELETE");
    sql(made.path(), "UPDATE ValidPaths SET registrationTime = 1");
    sql(made.path(), "VACUUM");
    Some(made)
}

/// Runs one statement on the database in a directory.
fn sql(directory: &Path, statement: &str) {
    let script = "import sqlite3, sys\nsqlite3.connect(sys.argv[1], isolation_level=None).execute(sys.argv[2])";
    tool::run(tool("python3").args(["-c", script]).arg(directory.join("db.sqlite")).arg(statement));
}

/// An image of `change` with a database that knows all its paths, and with what it was made of.
fn built(change: impl Fn(&mut Value) + 'static) -> Option<(Built, TempDir, Closure)> {
    let first = closure(Path::new("/nowhere"), |_| {});
    let made = made_by_nix(&first)?;
    let closure = closure(made.path(), change);
    Some((Built::new(&closure, &[]), made, closure))
}

fn verify(image: &Path) -> Run {
    run(sane_image().arg("verify").arg(image))
}

/// What is in the nix filesystem, unpacked.
fn extracted(built: &Built) -> PathBuf {
    let to = built.scratch().join("extracted");
    run(sane_image().arg("extract").arg(&built.image).args(["nix", "--out"]).arg(&to)).expect_success();
    to
}

#[track_caller]
fn assert_registered_in(built: &Built, path: &str) {
    let said = run(sane_image().arg("verify").arg(&built.image).arg("--json")).expect_success().stdout;
    let said: Value = serde_json::from_str(&said).unwrap();
    let expected = json!([path, "nix-path-registration"]);
    assert_eq!((&said["right"], &said["stores"][0]["registeredIn"]), (&json!(true), &expected), "{said:#}");
}

/// Nix knows the whole store of a directory tree and finds it right.
#[track_caller]
fn assert_known_to_nix(root: &Path, closure: &Closure) {
    let nix_store = |arguments: &[&str]| {
        let conf = tempfile::tempdir().unwrap();
        fs::write(conf.path().join("nix.conf"), "build-users-group =\nsandbox = false\nsubstituters =\n").unwrap();
        let mut command = tool("nix-store");
        command.env("NIX_CONF_DIR", conf.path()).env("HOME", conf.path()).env_remove("NIX_REMOTE");
        String::from_utf8(tool::run(command.arg("--store").arg(root).args(arguments))).unwrap()
    };
    let known = nix_store(&["--query", "--requisites", &closure.toplevel]);
    let mut known: Vec<_> = known.lines().collect();
    known.sort_unstable();
    assert_eq!(known, closure.paths.iter().map(|path| path.path.as_str()).collect::<Vec<_>>());
    nix_store(&["--check-validity", &closure.toplevel]);
    nix_store(&["--verify", "--check-contents"]);
}

#[test]
fn nix_finds_its_database_where_it_can_write_to_it() {
    let Some((built, made, closure)) = built(|_| {}) else { return };
    assert_registered_in(&built, "nix/var/nix/db/db.sqlite");
    let root = extracted(&built);
    for name in ["db.sqlite", "schema"] {
        let path = root.join("nix/var/nix/db").join(name);
        assert_eq!(fs::read(&path).unwrap(), fs::read(made.path().join(name)).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o644);
    }
    assert_known_to_nix(&root, &closure);
}

#[test]
fn a_system_copies_the_database_of_a_store_that_it_cannot_write_to() {
    for change in [store_alone, read_only] {
        let Some((built, made, closure)) = built(change) else { return };
        assert_registered_in(&built, IN_IMAGE);
        let root = extracted(&built);
        assert_eq!(fs::read(root.join(IN_IMAGE)).unwrap(), fs::read(made.path().join("db.sqlite")).unwrap());
        assert!(!root.join("nix/var").exists());
        // As the running system has both.
        let running = tempfile::tempdir().unwrap();
        fs::create_dir_all(running.path().join("nix/var/nix")).unwrap();
        fs::rename(root.join("nix-database"), running.path().join("nix/var/nix/db")).unwrap();
        let store = [root.join("nix/store"), root].into_iter().find(|path| path.exists()).unwrap();
        fs::rename(store, running.path().join("nix/store")).unwrap();
        assert_known_to_nix(running.path(), &closure);
    }
}

/// A database that nobody has used says the same as the list beside it.
#[test]
fn a_database_that_lacks_a_path_is_a_fault() {
    let Some((right, made, closure)) = built(store_alone) else { return };
    verify(&right.image).expect_success();
    let toplevel = &closure.toplevel;
    let row = format!("SELECT id FROM ValidPaths WHERE path = '{toplevel}'");
    sql(made.path(), &format!("DELETE FROM Refs WHERE referrer = ({row})"));
    sql(made.path(), &format!("DELETE FROM ValidPaths WHERE path = '{toplevel}'"));
    let wrong = Built::new(&closure, &[]);
    let told = verify(&wrong.image).expect_failure(1).stdout;
    let expected = format!("{IN_IMAGE}: lacks {toplevel}, which is in nix-path-registration\n");
    assert!(told.ends_with(&expected), "{told}");
}

#[test]
fn what_is_no_database_is_told() {
    let made = tempfile::tempdir().unwrap();
    let build = || {
        let closure = closure(made.path(), |spec| {
            spec["files"] = json!([{ "target": "/nix/var/nix/db/schema", "text": "9" }]);
        });
        let out = closure.root().join("out");
        run(&mut build_command(&closure.spec_path(), closure.root(), &out, &[])).expect_failure(1).stderr
    };
    let at = |name: &str| made.path().join(name).display().to_string();
    let remedy = "set nixDatabase to a directory with a db.sqlite and a schema of Nix, or to null";
    let error = |name: &str, problem: &str| format!("nixDatabase: {}: {problem}; {remedy}\n", at(name));
    let told = build();
    let missing = error("db.sqlite", "cannot be read: No such file or directory (os error 2)");
    assert!(told.ends_with(&missing), "{told}");
    fs::write(made.path().join("db.sqlite"), "").unwrap();
    assert!(build().ends_with(&error("db.sqlite", "is no file, or empty")));
    fs::write(made.path().join("db.sqlite"), "x").unwrap();
    fs::write(made.path().join("schema"), "10").unwrap();
    let told = build();
    let twice = "/nix/var/nix/db/schema: comes from nixDatabase and from files[0]; leave one out\n";
    assert!(told.ends_with(twice), "{told}");
    fs::write(made.path().join("db.sqlite-wal"), "x").unwrap();
    assert!(build().ends_with(&error("db.sqlite-wal", "has changes that are not in the database yet")));
    fs::remove_dir_all(made.path()).unwrap();
    assert!(build().contains(&format!("nixDatabase: {}: is not there; ", made.path().display())));
}
